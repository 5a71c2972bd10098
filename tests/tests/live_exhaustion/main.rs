//! Needs root: what runs out is seen by what fails of it, and by looks; who is well is left alone.
//!
//! guest: sensor::every_rung_tells_the_first_at_once_and_then_a_running_count
//! old guest: sensor::every_rung_tells_the_first_at_once_and_then_a_running_count
//! act rights: faults::every_exhaustion_is_called_by_its_name_and_no_twin_or_neighbour_is

mod faults;
mod governor;
mod sensor;

use healer_tests::home::{Agent, Home};

/// An agent with the embedded policies' words for everybody, and this configuration.
fn agent<'a>(home: &'a Home, config: &str) -> Agent<'a> {
    home.agent_with_config(config)
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
