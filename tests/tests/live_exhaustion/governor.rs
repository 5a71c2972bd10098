use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use healer_tests::home::{Agent, Home};
use serde_json::Value;

use crate::{NOTIFY, agent};

fn sensor(agent: &Agent<'_>) -> Value {
    let output = agent.home().healer(&["sensors", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let sensors = answer["sensors"].as_array().cloned().unwrap_or_default();
    sensors.into_iter().find(|sensor| sensor["name"] == "syscall_error").unwrap_or_default()
}

fn wait_for(agent: &mut Agent<'_>, mode: &str) -> Value {
    agent.wait(mode, |agent| Some(sensor(agent)).filter(|sensor| sensor["mode"] == mode))
}

/// As many system calls as this machine can make; over on drop.
struct Storm(Arc<AtomicBool>, Vec<thread::JoinHandle<()>>);

impl Storm {
    fn begin() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..2).map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    for _ in 0..1000 {
                        core::hint::black_box(rustix::process::getppid());
                    }
                }
            })
        });
        let threads = threads.collect();
        Self(over, threads)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        for thread in self.1.drain(..) {
            thread.join().ok();
        }
    }
}

#[test]
fn a_storm_of_calls_is_sampled_and_afterwards_the_sensor_comes_back_by_itself() {
    let home = Home::new(NOTIFY);
    // Others on this machine make calls, too, and a debug build is slow: the budget is wide.
    let mut agent = agent(&home, "overhead: {cpuPercent: 20}");
    wait_for(&mut agent, "full");
    let storm = Storm::begin();
    let sampled = wait_for(&mut agent, "sampled");
    let why = sampled["mode_why"].as_str().unwrap_or_default();
    assert!(why.contains(" system calls/s would cost "), "{why}");
    assert!(sampled["mode_since_time"].as_str().is_some_and(|time| time.ends_with('Z')));
    let metrics = agent.get("/metrics");
    assert!(metrics.contains("healer_sensor_mode{sensor=\"syscall_error\",mode=\"sampled\"} 1"), "{metrics}");
    drop(storm);
    // What others do meanwhile may cost the budget once more; each time it is given back a while later.
    agent.wait_within(Duration::from_secs(180), "full again", |agent| {
        (sensor(agent)["mode"] == "full").then_some(())
    });
    assert!(agent.log().contains("syscall_error is sampled"), "{}", agent.log());
}

#[test]
fn a_tiny_budget_gives_up_in_order_and_says_so() {
    let home = Home::new(NOTIFY);
    let mut agent = agent(&home, "overhead: {cpuPercent: 0.01}");
    let off = wait_for(&mut agent, "off");
    let why = off["mode_why"].as_str().unwrap_or_default();
    assert!(why.contains("budget") || why.contains("would cost"), "{why}");
    assert!(agent.get("/metrics").contains("healer_overhead_budget_cpu_ratio 0.0001"));
}
