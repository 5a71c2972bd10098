//! The course of an incident as a picture: how long each part took, and what was said when.

use core::time::Duration;
use std::fmt::Write as _;

use super::{class_of, safe};
use crate::{cli::story, engine::time::Human, report::incidents::Incident};

const WIDTH: f64 = 960.0;
/// A part of a millisecond beside one of a minute can still be seen.
const PART_MIN: f64 = 0.12;
/// What follows the last known part is shown if it takes more than this fraction of all that.
const NOTABLE: u64 = 20;
const BAR: f64 = 34.0;
const LANE: f64 = 18.0;
const LABEL: f64 = 84.0;

/// A part of the course, from the first kernel record on.
struct Part {
    name: &'static str,
    colour: &'static str,
    took: u64,
}

/// Empty if nothing is known of the times.
pub(super) fn course(incident: &Incident) -> String {
    let rows = story::rows(incident);
    let parts = parts(incident, &rows);
    let whole: u64 = parts.iter().map(|part| part.took).sum();
    if whole == 0 {
        return String::new();
    }
    let scale = Scale::new(&parts);
    let mut lanes: Vec<&str> = Vec::new();
    for row in &rows {
        if !lanes.contains(&row.part) {
            lanes.push(row.part);
        }
    }
    let height = BAR + 26.0 + LANE * lanes.len() as f64 + 8.0;
    let mut svg = format!(
        "<svg class=\"course\" role=\"img\" aria-label=\"course of the incident\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\">\n"
    );
    bars(&parts, &scale, &mut svg);
    for (number, lane) in lanes.iter().enumerate() {
        let y = BAR + 26.0 + LANE * (number as f64 + 0.5);
        writeln!(svg, "<text class=\"lane\" x=\"0\" y=\"{:.1}\">{}</text>", y + 4.0, safe(lane)).ok();
        writeln!(svg, "<line class=\"lane\" x1=\"{LABEL}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>")
            .ok();
        for row in rows.iter().filter(|row| row.part == *lane) {
            dot(row, y, scale.at(row.boot_ns.saturating_sub(incident.fault_boot_ns)), &mut svg);
        }
    }
    svg + "</svg>\n"
}

fn parts(incident: &Incident, rows: &[story::Row<'_>]) -> Vec<Part> {
    let known = [
        ("detected", "#b42318", incident.to_detect_ns),
        ("acted", "#b54708", incident.to_act_ns),
        ("well", "#067647", incident.to_recover_ns),
    ];
    let known = known.into_iter().filter_map(|(name, colour, took)| Some(Part { name, colour, took: took? }));
    let mut parts: Vec<_> = known.collect();
    let whole: u64 = parts.iter().map(|part| part.took).sum();
    let last = rows.iter().map(|row| row.boot_ns.saturating_sub(incident.fault_boot_ns)).max();
    let took = last.unwrap_or_default().saturating_sub(whole);
    if 0 < whole && whole / NOTABLE < took {
        let name = if incident.closed_time.is_some() { "over" } else { "last told" };
        parts.push(Part { name, colour: "#475467", took });
    }
    parts
}

fn bars(parts: &[Part], scale: &Scale, svg: &mut String) {
    for (part, (from, to)) in parts.iter().zip(&scale.spans) {
        let took = Human(Duration::from_nanos(part.took));
        let (width, middle) = ((to - from - 2.0).max(1.0), (from + to) / 2.0);
        writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"0\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"3\" fill=\"{}\"/>",
            part.colour
        )
        .ok();
        writeln!(
            svg,
            "<text class=\"bar\" x=\"{middle:.1}\" y=\"{:.1}\">{} in {took}</text>",
            BAR / 2.0 + 4.0,
            part.name
        )
        .ok();
    }
}

fn dot(row: &story::Row<'_>, y: f64, x: f64, svg: &mut String) {
    let class = class_of(row.mood);
    let title = format!("{} {}", story::clock(row.time), row.says);
    writeln!(
        svg,
        "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"><title>{}</title></circle>",
        safe(&title)
    )
    .ok();
}

/// From nanoseconds since the fault to a place: each part has its own scale, so that none is too narrow to be read.
struct Scale {
    /// Where each part begins and ends.
    spans: Vec<(f64, f64)>,
    took: Vec<u64>,
}

impl Scale {
    fn new(parts: &[Part]) -> Self {
        let whole: u64 = parts.iter().map(|part| part.took).sum();
        let share = |took: u64| (took as f64 / whole.max(1) as f64).max(PART_MIN);
        let sum: f64 = parts.iter().map(|part| share(part.took)).sum();
        let mut at = LABEL;
        let spans = parts.iter().map(|part| {
            let from = at;
            at += share(part.took) / sum * (WIDTH - LABEL - 8.0);
            (from, at)
        });
        Self { spans: spans.collect(), took: parts.iter().map(|part| part.took).collect() }
    }

    fn at(&self, nanos: u64) -> f64 {
        let mut begun = 0;
        for ((from, to), took) in self.spans.iter().zip(&self.took) {
            if nanos <= begun + took {
                return from + (to - from) * (nanos - begun) as f64 / (*took).max(1) as f64;
            }
            begun += took;
        }
        self.spans.last().map_or(LABEL, |(_, to)| *to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_part_is_still_seen_and_places_keep_their_order() {
        let of = |took| Part { name: "acted", colour: "#000", took };
        let scale = Scale::new(&[of(1_000), of(7_000_000), of(60_000_000_000)]);
        for (from, to) in &scale.spans {
            assert!(80.0 < to - from, "{from} {to}");
        }
        let at: Vec<f64> = [0, 500, 1_000, 7_001_000, 30_000_000_000, u64::MAX].map(|at| scale.at(at)).into();
        assert!(at.is_sorted(), "{at:?}");
        assert!(at.iter().all(|at| (LABEL..=WIDTH).contains(at)), "{at:?}");
    }
}
