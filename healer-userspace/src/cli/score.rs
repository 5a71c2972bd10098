//! `healer score`

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use serde_json::json;

use super::output::{Cell, Mood, Paint, Table, emit, emit_json};
use crate::{
    control::{
        Request,
        client::{AskError, ask},
    },
    report::scores::{RuleScore, Scores},
};

/// What rules in shadow would have done, and whether that would have been right; also without an agent
#[derive(clap::Args)]
pub struct Args {
    /// For scripts
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, state_dir: &Path) -> anyhow::Result<ExitCode> {
    let scores = told(state_dir)?;
    if args.json {
        emit_json(&json!({"scores": scores}))?;
    } else {
        emit(&render(&scores, Paint::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn told(state_dir: &Path) -> anyhow::Result<Vec<RuleScore>> {
    match ask(state_dir, &Request::Scores) {
        Ok(answer) => Ok(serde_json::from_value(answer["scores"].clone())?),
        Err(error @ AskError::NoAgent { .. }) => {
            Ok(Scores::of_audit(state_dir).context(error)?.nobody_follows().list())
        }
        Err(error) => Err(error.into()),
    }
}

fn render(scores: &[RuleScore], paint: Paint) -> String {
    if scores.is_empty() {
        return "no rule in shadow would have acted yet\n".into();
    }
    let head =
        ["RULE", "WOULD HAVE ACTED", "NEEDLESS", "RIGHT", "DIED", "STAYED SICK", "UNKNOWN", "FOLLOWED NOW"];
    let mut table = Table::with_head(&head);
    for score in scores {
        let needless = if score.recovered_alone == 0 { Mood::Plain } else { Mood::Bad };
        let right = if score.right() == 0 { Mood::Plain } else { Mood::Good };
        table.row([
            Cell::new(Mood::Strong, &name(score)),
            Cell::from(score.would_have_acted.to_string()),
            Cell::new(needless, &score.recovered_alone.to_string()),
            Cell::new(right, &score.right().to_string()),
            Cell::from(score.died.to_string()),
            Cell::from(score.stayed_sick.to_string()),
            Cell::from(score.unknown.to_string()),
            Cell::from(score.following.to_string()),
        ]);
    }
    let mut out = table.render(paint);
    let mut advice = Table::default();
    for score in scores {
        if let Some(suggestion) = &score.suggestion {
            advice.row([Cell::new(Mood::Strong, &name(score)), Cell::from(&suggestion.says)]);
        }
    }
    out.push_str(&advice.render(paint));
    out
}

fn name(score: &RuleScore) -> String {
    format!("{}/{}", score.policy, score.rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scores::Suggestion;

    #[test]
    fn a_rule_is_a_line_and_its_advice_another() {
        let says = "for: 30s would have avoided 4 of 5 needless acts".to_owned();
        let suggestion = Suggestion { for_seconds: 30, avoids: 4, needless: 5, misses: 0, right: 2, says };
        let score = RuleScore {
            policy: "web".into(),
            rule: "stuck".into(),
            would_have_acted: 7,
            recovered_alone: 5,
            died: 2,
            suggestion: Some(suggestion),
            ..RuleScore::default()
        };
        let text = render(&[score], Paint(false));
        let lines: Vec<_> = text.lines().collect();
        let numbers: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(numbers, ["web/stuck", "7", "5", "2", "2", "0", "0", "0"], "{text}");
        assert_eq!(lines[2], "web/stuck  for: 30s would have avoided 4 of 5 needless acts");
        assert_eq!(render(&[], Paint(false)), "no rule in shadow would have acted yet\n");
    }
}
