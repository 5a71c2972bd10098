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
const RADIUS: f64 = 110.0;
const NODE: f64 = 16.0;
/// Room for the words beside a circle.
const WORDS: f64 = 205.0;
const MARGIN: f64 = 40.0;

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
    let (middle, centre) = (RADIUS + WORDS, RADIUS + MARGIN);
    let height = 2.0 * centre;
    // Two stand one above the other, and nobody at their left.
    let (left, width) =
        if links.len() < 3 { (middle - MARGIN, MARGIN + NODE + WORDS) } else { (0.0, 2.0 * middle) };
    let class = if links.len() < 3 { "graph" } else { "graph wide" };
    let mut svg = format!(
        "<svg class=\"{class}\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{left} 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<defs><marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>\n"
    );
    let at = |index: usize| {
        let angle = TAU * index as f64 / links.len().max(1) as f64 - TAU / 4.0;
        (middle + RADIUS * angle.cos(), centre + RADIUS * angle.sin())
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
        let wait = format!("{} {}", link.wait.kind.phrase(), link.wait.lock);
        // Beside the circle, away from the lines.
        let (beside, anchor) =
            if x < middle - 1.0 { (x - NODE - 6.0, "end") } else { (x + NODE + 6.0, "start") };
        for (line, says) in [(y - 2.0, name(link)), (y + 13.0, wait)] {
            let place = format!("x=\"{beside:.1}\" y=\"{line:.1}\" text-anchor=\"{anchor}\"");
            writeln!(svg, "<text {place}>{}</text>", escaped(&says)).ok();
        }
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
