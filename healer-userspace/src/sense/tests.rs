use std::path::PathBuf;

use super::*;

/// Neither programs nor any other source.
fn blind() -> Settings {
    let nowhere = PathBuf::from("/nonexistent");
    Settings {
        object: None,
        connector: false,
        sockets: false,
        kmsg: nowhere.clone(),
        tracefs: nowhere,
        ..Settings::default()
    }
}

fn reasons(settings: &Settings) -> Vec<String> {
    let sense = Sense::start(settings);
    assert!(sense.programs().is_empty());
    assert_eq!(sense.sensors().len(), SENSORS.len() + 1);
    let reason = |sensor: &SensorStatus| {
        let is_left = sensor.name == poll::tasks::PROGRAM;
        let expected = if is_left { SensorState::Degraded } else { SensorState::Down };
        assert_eq!((sensor.state, sensor.via), (expected, is_left.then_some("proc")));
        assert!(sensor.remedy.is_some());
        sensor.reason.clone().unwrap_or_default()
    };
    sense.sensors().iter().map(reason).collect()
}

#[test]
fn a_build_without_programs_says_so() {
    for reason in reasons(&blind()) {
        assert!(reason.contains("without kernel programs"), "{reason}");
    }
}

#[test]
fn a_kernel_without_btf_says_so() {
    let btf = PathBuf::from("/nonexistent/vmlinux");
    for reason in reasons(&Settings { btf, ..blind() }) {
        assert!(reason.contains("/nonexistent/vmlinux does not exist"), "{reason}");
    }
}

#[test]
fn without_programs_nothing_is_lost_and_nothing_can_be_tracked() {
    let mut sense = Sense::start(&blind());
    assert_eq!(sense.lost(), Lost::default());
    assert_eq!(sense.drain(|_| {}), 0);
    assert!(matches!(sense.track(1), Err(MapTrouble::NothingLoaded)));
    assert!(matches!(sense.watch_exe(2), Err(MapTrouble::NothingLoaded)));
}
