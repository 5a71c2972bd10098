//! Every fault and every healthy twin beside an agent that enforces: all the sick get their name, nobody innocent is
//! touched, nothing is done twice. `HEALER_FULL`: two hundred of them, in three orders. What each gave is kept as
//! `campaign-SEED.json` in target/tmp.

use std::{fs, path::Path, process::Command};

use healer_tests::{binary::healer, told::tell};
use serde_json::Value;

fn campaign(seed: u32, instances: u32, more: &[&str]) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("campaign-{seed}.json"));
    let output = Command::new(healer())
        .args(["chaos", "--campaign", "--overlap", "8"])
        .args(["--seed", &seed.to_string(), "--instances", &instances.to_string()])
        .args(more)
        .arg("--json")
        .arg(&file)
        .output()
        .unwrap();
    let words =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    tell(&words);
    assert!(output.status.success(), "{words}");
    let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let made = kept["instances"].as_array().unwrap();
    assert!(instances as usize <= made.len(), "{words}");
    assert!(made.iter().any(|one| one["class"].is_null()), "{words}");
    assert!(95.0 <= kept["recall_percent"].as_f64().unwrap(), "{words}");
}

#[test]
fn the_sick_are_named_and_the_innocent_are_left_alone() {
    if std::env::var_os("HEALER_FULL").is_some() {
        (1..=3).for_each(|seed| campaign(seed, 200, &[]));
    } else {
        campaign(1, 40, &["--short"]);
    }
}
