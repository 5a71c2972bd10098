//! Recorded traces through the whole engine: what it says is compared with what is kept beside the trace.
//!
//! `tests/traces/DETECTOR/NAME.jsonl` is a trace, `NAME.expected` what must come of it (nothing, for a healthy
//! machine), `NAME.policy.yaml` the policy if it is not the embedded default. An incident becomes a test by copying
//! a recording there; `UPDATE_EXPECT=1 cargo test --package healer-tests --test replay` writes what comes of it now.

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use healer_userspace::{
    config::{self, Sources},
    engine::{
        detect::{self, DETECTORS},
        policy::PolicySet,
        time::BootTime,
    },
    replay::{line, read, replay},
};

fn traces() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("traces")
}

fn traces_of(detector: &str) -> Vec<PathBuf> {
    let dir = traces().join(detector);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let paths = entries.map(|entry| entry.expect("the directory can be read").path());
    let mut found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
    found.sort();
    found
}

fn policies_beside(trace: &Path) -> PolicySet {
    let policy = trace.with_extension("policy.yaml");
    let policies = if policy.exists() { vec![policy] } else { Vec::new() };
    let sources = Sources { policies, ..Sources::default() };
    match config::load(&sources, &detect::is_built) {
        Ok(loaded) => loaded.policies,
        Err(problems) => panic!("{problems}"),
    }
}

fn what_comes_of(trace: &Path) -> String {
    let file = File::open(trace).unwrap_or_else(|error| panic!("{}: {error}", trace.display()));
    let signals = read(BufReader::new(file)).unwrap_or_else(|error| panic!("{}: {error:#}", trace.display()));
    assert!(!signals.is_empty(), "{}: an empty trace shows nothing", trace.display());
    let start = signals.first().map_or(BootTime(0), |signal| signal.at);
    let reports = replay(&signals, policies_beside(trace));
    let again = replay(&signals, policies_beside(trace));
    assert_eq!(reports, again, "{}: a replay is deterministic", trace.display());
    reports.iter().map(|report| line(report, start) + "\n").collect()
}

/// Says where they part; `None` if they are the same.
fn difference(trace: &Path, expected: &str, actual: &str) -> Option<String> {
    if expected == actual {
        return None;
    }
    let same = expected.lines().zip(actual.lines()).take_while(|(one, other)| one == other).count();
    let at = |text: &str| text.lines().nth(same).unwrap_or("(nothing more)").to_owned();
    Some(format!(
        "{}: line {}:\n  expected {}\n  came     {}",
        trace.display(),
        same + 1,
        at(expected),
        at(actual)
    ))
}

#[test]
fn every_trace_gives_what_is_kept_beside_it() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    for trace in DETECTORS.iter().flat_map(|detector| traces_of(detector.name)) {
        let actual = what_comes_of(&trace);
        let kept = trace.with_extension("expected");
        if update {
            fs::write(&kept, &actual).expect("the expectation can be written");
        }
        match fs::read_to_string(&kept) {
            Ok(expected) => wrong.extend(difference(&trace, &expected, &actual)),
            Err(error) => wrong.push(format!("{}: {error} (UPDATE_EXPECT=1 writes it)", kept.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_detector_has_a_trace_that_it_speaks_up_in_and_one_in_which_nobody_does() {
    for detector in DETECTORS {
        let expectations: Vec<_> = traces_of(detector.name)
            .iter()
            .map(|trace| fs::read_to_string(trace.with_extension("expected")).unwrap_or_default())
            .collect();
        let says = |text: &String| {
            detector.classes.iter().any(|class| text.contains(&format!(" diagnosis {class} ")))
        };
        assert!(expectations.iter().any(says), "{}: no trace shows it", detector.name);
        let is_quiet = |text: &String| !text.contains(" diagnosis ");
        assert!(expectations.iter().any(is_quiet), "{}: no healthy trace", detector.name);
    }
}
