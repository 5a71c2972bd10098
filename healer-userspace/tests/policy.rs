#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
//! `healer policy` as a script sees it: output, error output, exit status.

use std::{
    path::Path,
    process::{Command, Output},
};

fn healer(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_healer")).arg("policy").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_bad_policy_is_exit_status_2_with_line_and_column() {
    let file = std::env::temp_dir().join(format!("healer-policy-cli-{}.yaml", std::process::id()));
    let policy =
        "apiVersion: healer.dev/v1alpha1\nkind: HealPolicy\nmetadata: {name: p}\nspec: {verfy: {}}\n";
    std::fs::write(&file, policy).unwrap();
    let output = healer(&["check", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected =
        format!("{}:4:8: unknown key \"verfy\" in spec; did you mean \"verify\"?\n", file.display());
    assert!(text(&output.stderr).starts_with(&expected), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
}

#[test]
fn good_policies_and_the_default_are_exit_status_0() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/examples");
    let output = healer(&["check", examples.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = healer(&["check"]);
    assert!(text(&output.stdout).ends_with("ok: embedded default, 4 policies\n"));
    assert_eq!(text(&healer(&["default"]).stdout), include_str!("../policies/default.yaml"));
}

#[test]
fn a_pause_that_nobody_here_can_tell_of_is_a_warning() {
    let dir = std::env::temp_dir();
    let file = dir.join(format!("healer-policy-pause-{}.yaml", std::process::id()));
    let policy = "apiVersion: healer.dev/v1alpha1\nkind: HealPolicy\nmetadata: {name: p}\nspec:\n  match: \
        {comm: web}\n  safety: {pause: {annotation: healer.dev/pause}}\n  rules: [{name: tell, when: \
        [{class: crash}], escalate: [{do: notify}]}]\n";
    let config = "---\napiVersion: healer.dev/v1alpha1\nkind: AgentConfig\n\
        kubernetes: {kubeconfig: /etc/kubeconfig}\n";
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = healer(&["check", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", crate::text(&output.stderr));
        crate::text(&output.stdout)
    };
    let (alone, asked) = (check(policy), check(&format!("{policy}{config}")));
    std::fs::remove_file(&file).unwrap();
    assert!(alone.contains("no Kubernetes to ask") && alone.contains("`healer pause`"), "{alone}");
    assert!(!asked.contains("warning"), "{asked}");
}

#[test]
fn the_schema_is_json() {
    for args in [&["schema"][..], &["schema", "--kind", "AgentConfig", "--crd"]] {
        let schema: serde_json::Value = serde_json::from_slice(&healer(args).stdout).unwrap();
        assert_eq!(schema["type"], "object");
    }
}
