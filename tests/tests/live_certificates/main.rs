//! Why it died and who did it, through the real agent; each with a healthy twin that nobody speaks of. Needs root.

mod aims;
mod cron;
mod faults;
mod group;
mod healthy;
mod hook;
mod loops;
mod oom;
mod recycled;
mod stop;
mod why;

use healer_tests::home::{Agent, Home, is};
use serde_json::Value;

/// The agent has read whatever happened before this: it has told a crash that came after it.
fn caught_up(agent: &mut Agent<'_>) {
    let name = healer_tests::scratch::unique_name();
    let source = "#include <stdlib.h>\nint main(void) { abort(); }";
    let program = healer_tests::victim::compile(agent.home().scratch(), &name, source);
    healer_tests::victim::Victim::start(&program, &[]).wait();
    let path = program.display().to_string();
    agent.wait("the crash that came last", |agent| {
        agent.home().audit().into_iter().find(|found| is(found, "diagnosis", &path))
    });
}

/// Diagnoses in which `part` stands.
fn diagnoses(home: &Home, part: &str) -> Vec<Value> {
    home.audit().into_iter().filter(|found| is(found, "diagnosis", part)).collect()
}

/// The first diagnosis of that class in which `part` stands.
fn diagnosis(agent: &mut Agent<'_>, class: &str, part: &str) -> Value {
    agent.wait(&format!("{class} with {part}"), |agent| {
        diagnoses(agent.home(), part).into_iter().find(|found| found["class"] == class)
    })
}
