//! Policies for the tests, short of everything that is always the same.

/// What most tests want: `down` is answered by a restart that is verified in half a second.
pub const RESTART: &str = "
  rules:
    - name: down
      when: [{class: down}]
      escalate: [{do: restart, timeout: 20s}, {do: notify}]
  safety:
    budget: {max: 20, per: 1h}
    backoff: {initial: 100ms, factor: 1, max: 100ms, resetAfter: 1m}
  verify: {within: 10s, stableFor: 500ms}
";

/// A policy for one `match`, for example `supervise: web`.
#[must_use]
pub fn policy(mode: &str, matches: &str, rest: &str) -> String {
    let rest = rest.trim_matches('\n');
    format!(
        "apiVersion: healer.dev/v1alpha1\nkind: HealPolicy\nmetadata: {{name: test}}\nspec:\n  \
         mode: {mode}\n  match: {{{matches}}}\n{rest}\n"
    )
}

/// Restarts the supervised command of that name.
#[must_use]
pub fn restarting(name: &str) -> String {
    policy("enforce", &format!("supervise: {name}"), RESTART)
}

/// Restarts units, named as in a YAML list.
#[must_use]
pub fn units(names: &str) -> String {
    let rest = "
  expect: {running: true}
  rules:
    - {name: restart, when: [{class: crash}, {class: down}, {class: oom_kill}], capture: {logLines: 5}, escalate: [{do: restart}, {do: notify}]}
  verify: {within: 20s, stableFor: 500ms}
";
    policy("enforce", &format!("unit: [{names}]"), rest)
}
