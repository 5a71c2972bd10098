//! No privilege needed: every recorded trace through the whole engine says what its `.expected` says.
//!
//! `HEALER_BLESS=1` writes these files anew: read the difference before you keep it.

use std::{
    fs,
    io::BufReader,
    path::{Path, PathBuf},
};

use healer_userspace::{
    config::{self, Sources},
    engine::{class::Class, time::BootTime},
    replay::{line, read, replay},
};

fn traces() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let folders = fs::read_dir(root).expect("there are traces").flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    let mut traces: Vec<_> = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    traces.sort();
    traces
}

/// What the engine says to a trace under the policy beside it (`.yaml`), or else the default policy.
fn says(trace: &Path) -> String {
    let file = fs::File::open(trace).expect("the trace can be read");
    let signals = read(BufReader::new(file)).unwrap_or_else(|error| panic!("{}: {error:#}", trace.display()));
    let built = |_: Class| true;
    let beside = trace.with_extension("yaml");
    let policies = if beside.exists() { vec![beside] } else { Vec::new() };
    let sources = Sources { policies, ..Sources::default() };
    let policies = config::load(&sources, &built).expect("the policy is sound").policies;
    let start = signals.first().map_or(BootTime(0), |signal| signal.at);
    replay(&signals, policies).iter().map(|report| line(report, start) + "\n").collect()
}

#[test]
fn every_trace_is_judged_as_expected() {
    let mut wrong = Vec::new();
    for trace in traces() {
        let expected = trace.with_extension("expected");
        let said = says(&trace);
        if std::env::var_os("HEALER_BLESS").is_some() {
            fs::write(&expected, &said).expect("the expectation can be written");
        }
        if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("{}:\n{said}", trace.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
