//! Needs root: what runs out is seen by what fails of it, and by looks; who is well is left alone.
//!
//! guest: all

mod faults;
mod governor;
mod sensor;

use std::fs;

use healer_tests::home::{Agent, Home};

/// An agent with the embedded policies' words for everybody, and this configuration.
fn agent<'a>(home: &'a Home, config: &str) -> Agent<'a> {
    let path = home.path().join("agent.yaml");
    let text = format!("apiVersion: healer.dev/v1alpha1\nkind: AgentConfig\n{config}\n");
    fs::write(&path, text).expect("the scratch directory can be written");
    let mut command = home.run_command();
    command.arg("--config").arg(path);
    home.agent_of(command)
}

const NOTIFY: &str = "
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {name: all}
spec:
  mode: shadow
  rules:
    - name: tell
      when:
        - {class: fd_exhaustion}
        - {class: pid_exhaustion}
        - {class: disk_full}
        - {class: port_exhaustion}
        - {class: io_error}
        - {class: zombie_children}
      escalate: [{do: notify}]
";
