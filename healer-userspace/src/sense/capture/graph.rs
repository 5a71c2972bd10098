//! Who waits for whom, as lines and as a picture.

use core::f64::consts::TAU;
use std::fmt::Write as _;

use crate::{
    engine::{
        detect::deadlock::proof::{Link, Proof},
        time::Human,
    },
    text::printable,
};

/// More would not be legible.
const NODES_MAX: usize = 12;
const RADIUS: f64 = 150.0;
const NODE: f64 = 34.0;

pub(super) fn text(proof: &Proof) -> String {
    let mut text = format!("\nwaits, {}\n", proof.certainty.name());
    for link in &proof.threads {
        let waited = Human(core::time::Duration::from_millis(link.task.waited_ms));
        let (kind, lock) = (link.wait.kind.phrase(), &link.wait.lock);
        writeln!(text, "  {} waits {waited} {kind} {lock}: {}", name(link), printable(&link.wait.says)).ok();
    }
    text
}

/// Each thread waits for the next, around a circle.
pub(super) fn svg(proof: &Proof) -> String {
    let links = &proof.threads[..proof.threads.len().min(NODES_MAX)];
    let (size, middle) = (2.0 * (RADIUS + 110.0), RADIUS + 110.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\" font-family=\"sans-serif\" font-size=\"11\" \
         text-anchor=\"middle\">\n<defs><marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>\n"
    );
    let at = |index: usize| {
        let angle = TAU * index as f64 / links.len().max(1) as f64 - TAU / 4.0;
        (middle + RADIUS * angle.cos(), middle + RADIUS * angle.sin())
    };
    for (index, link) in links.iter().enumerate() {
        let ((x, y), (to_x, to_y)) = (at(index), at((index + 1) % links.len()));
        let length = (to_x - x).hypot(to_y - y).max(1.0);
        let (dx, dy) = ((to_x - x) / length * NODE, (to_y - y) / length * NODE);
        if 1 < links.len() {
            let (from, to) = ((x + dx, y + dy), (to_x - dx, to_y - dy));
            let line =
                format!("x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"", from.0, from.1, to.0, to.1);
            writeln!(svg, "<line {line} stroke=\"#000\" marker-end=\"url(#a)\"/>").ok();
        }
        writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{NODE}\" fill=\"#fdd\" stroke=\"#900\"/>")
            .ok();
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(&name(link))).ok();
        let wait = format!("{} {}", link.wait.kind.phrase(), link.wait.lock);
        // Beside the circle, away from the lines.
        let (beside, anchor) =
            if x < middle - 1.0 { (x - NODE - 6.0, "end") } else { (x + NODE + 6.0, "start") };
        let place = format!("x=\"{beside:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"");
        writeln!(svg, "<text {place} font-size=\"9\">{}</text>", escaped(&wait)).ok();
    }
    svg + "</svg>\n"
}

fn name(link: &Link) -> String {
    format!("{}[{}]", printable(&link.task.comm), link.task.tid)
}

/// The name of a thread is its own choice.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
