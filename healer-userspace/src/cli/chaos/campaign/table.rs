//! The confusion matrix of a campaign, as a person reads it.

use core::time::Duration;
use std::collections::BTreeMap;

use super::judge::{Judged, Verdict};
use crate::{
    cli::output::{Cell, Mood, Paint, Table},
    engine::time::Human,
};

pub(super) fn render(verdict: &Verdict, took: Duration) -> String {
    let paint = Paint::of_stdout();
    let mut kinds: BTreeMap<(bool, &str), Vec<&Judged>> = BTreeMap::new();
    for judged in &verdict.instances {
        kinds.entry((judged.class.is_none(), judged.fault)).or_default().push(judged);
    }
    let head = ["FAULT", "CLASS", "MADE", "RIGHT", "ALSO SAID", "ACTED", "DETECT", "ACT", "WELL"];
    let mut table = Table::with_head(&head);
    for ((_, fault), of_kind) in &kinds {
        table.row(row(fault, of_kind));
    }
    let mut out = table.render(paint);
    out.push_str(&summary(verdict, took, paint));
    out
}

fn row(fault: &str, of_kind: &[&Judged]) -> [Cell; 9] {
    let class = of_kind[0].class;
    let right = of_kind.iter().filter(|judged| judged.is_right()).count();
    let mut also: BTreeMap<&str, usize> = BTreeMap::new();
    for said in of_kind.iter().flat_map(|judged| judged.said_wrongly()) {
        *also.entry(said).or_default() += 1;
    }
    let also: Vec<_> = also.iter().map(|(class, times)| format!("{class} ×{times}")).collect();
    let acted = of_kind.iter().filter(|judged| !judged.acts.is_empty()).count();
    let mood = if class.is_some() && right < of_kind.len() { Mood::Bad } else { Mood::Plain };
    let median = |of: fn(&Judged) -> Option<u64>| {
        let mut all: Vec<_> = of_kind.iter().filter_map(|judged| of(judged)).collect();
        all.sort_unstable();
        all.get(all.len() / 2).map_or("-".to_owned(), |nanos| Human(Duration::from_nanos(*nanos)).to_string())
    };
    [
        Cell::from(fault),
        Cell::from(class.unwrap_or("healthy")),
        Cell::from(of_kind.len().to_string()),
        Cell::new(mood, &class.map_or("-".to_owned(), |_| right.to_string())),
        Cell::new(Mood::Held, &also.join(", ")),
        Cell::from(acted.to_string()),
        Cell::from(median(|judged| judged.to_detect_ns)),
        Cell::from(median(|judged| judged.to_act_ns)),
        Cell::from(median(|judged| judged.to_recover_ns)),
    ]
}

fn summary(verdict: &Verdict, took: Duration, paint: Paint) -> String {
    let healthy = verdict.instances.iter().filter(|judged| judged.class.is_none());
    let (well, said): (Vec<_>, Vec<_>) = healthy.partition(|judged| judged.said.is_empty());
    let words = format!(
        "{} instances in {}: recall {:.1} %; of {} healthy ones {} were never mentioned",
        verdict.instances.len(),
        Human(took),
        verdict.recall_percent,
        well.len() + said.len(),
        well.len(),
    );
    let mood = if verdict.is_good() { Mood::Good } else { Mood::Bad };
    let mut out = format!("\n{}\n", paint.paint(mood, &words));
    for wrong in &verdict.wrong {
        out.push_str(&format!("  {}\n", paint.paint(Mood::Bad, &crate::text::printable(wrong))));
    }
    out
}
