//! No privilege needed: the object, the event table and the sensor table name the same things.

use std::collections::BTreeSet;

use aya_obj::ProgramSection;
use healer_common::{
    event::{COMPANIONS, PROBES},
    kernel_formats, kernel_offsets, kernel_settings,
};
use healer_userspace::sense::{BESIDE, Level, OBJECT, Rung, SENSORS, poll::tasks};

fn object() -> aya_obj::Object {
    let bytes = OBJECT.expect("this test needs the kernel programs: cargo xtask build");
    aya_obj::Object::parse(bytes).expect("the build leaves a sound object")
}

#[test]
fn every_program_is_a_rung_and_every_rung_a_program() {
    let object = object();
    let built: BTreeSet<_> = object.programs.keys().map(String::as_str).collect();
    let rungs = SENSORS.iter().flat_map(|sensor| sensor.rungs);
    let listed = rungs.filter_map(|rung| rung.program()).chain([tasks::PROGRAM]).map(str::to_owned);
    let beside = BESIDE.iter().map(|beside| beside.program.to_owned());
    let with: BTreeSet<String> = listed.chain(companions().map(|(name, ..)| name)).chain(beside).collect();
    let with: BTreeSet<_> = with.iter().map(String::as_str).collect();
    assert_eq!(built, with);
}

/// Of every rung that has a program: the name of each companion, and the rung.
fn companions() -> impl Iterator<Item = (String, &'static Rung)> {
    COMPANIONS.iter().flat_map(|companion| {
        let sensor = SENSORS.iter().find(|sensor| sensor.kind == companion.kind).expect("it has a sensor");
        sensor.rungs.iter().filter_map(|rung| {
            let variant = rung.program()?.strip_prefix(companion.kind.name())?;
            Some((format!("{}{variant}", companion.program), rung))
        })
    })
}

#[test]
fn companions_are_of_their_sensors_types() {
    let object = object();
    for (name, rung) in companions() {
        assert!(is_of(&object, &name, rung), "{name}");
    }
}

fn is_of(object: &aya_obj::Object, program: &str, rung: &Rung) -> bool {
    let section = &object.programs.get(program).expect("it was built").section;
    match rung.level() {
        Level::TpBtf => matches!(section, ProgramSection::BtfTracePoint),
        Level::RawTp => matches!(section, ProgramSection::RawTracePoint),
        Level::Tracepoint => matches!(section, ProgramSection::TracePoint),
        Level::User => false,
    }
}

#[test]
fn every_event_has_one_sensor_in_the_same_order() {
    let events: Vec<_> = PROBES.iter().map(|probe| probe.kind).collect();
    let sensors: Vec<_> = SENSORS.iter().map(|sensor| sensor.kind).collect();
    assert_eq!(events, sensors);
}

/// Program names follow the event: `name`, `name_raw`, `name_tp`, one of each kind, the best first; a hook that
/// only a typed program uses has the first alone.
#[test]
fn every_sensor_has_its_programs_of_the_right_type_in_order() {
    let object = object();
    for (probe, sensor) in PROBES.iter().zip(SENSORS) {
        let levels: Vec<_> = sensor.rungs.iter().map(|rung| rung.level()).collect();
        assert!(levels.is_sorted_by(|one, other| one < other), "{}: {levels:?}", probe.program);
        let programs: Vec<_> = sensor.rungs.iter().filter_map(|rung| rung.program()).collect();
        let expected = ["", "_raw", "_tp"].map(|suffix| format!("{}{suffix}", probe.program));
        assert!(programs.len() == 1 || programs.len() == expected.len(), "{programs:?}");
        assert_eq!(programs, expected[..programs.len()]);
        for rung in sensor.rungs {
            let Some(program) = rung.program() else { continue };
            assert!(is_of(&object, program, rung), "{program}");
        }
    }
}

#[test]
fn the_best_rung_lacks_nothing_and_the_lower_say_what_they_lack() {
    for rung in SENSORS.iter().flat_map(|sensor| sensor.rungs) {
        match rung {
            Rung::TpBtf { .. } => assert!(rung.lacks().is_empty(), "{rung:?}"),
            // Of some sensors it gives all the same.
            Rung::RawTp { .. } => {}
            _ => assert!(!rung.lacks().is_empty(), "{rung:?}"),
        }
        assert!(rung.lacks().iter().all(|field| field.contains('.')), "{rung:?}");
    }
}

/// A static that no program reads is dropped by the linker, and the loader refuses to set it.
#[test]
fn every_tuned_value_is_in_the_object() {
    macro_rules! offset_sizes {
        ($($name:ident: $of:literal, $path:literal, $need:ident by $programs:literal;)*) => {
            [$((stringify!($name), 4)),*]
        };
    }
    macro_rules! setting_sizes {
        ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => { [$((stringify!($name), size_of::<$type>())),*] };
    }
    macro_rules! format_sizes {
        ($($name:ident: $group:literal, $event:literal, $field:literal, $shape:tt, $need:ident by $program:literal;)*) => {
            [$((stringify!($name), 4)),*]
        };
    }
    let values = kernel_offsets!(offset_sizes).into_iter();
    let values = values.chain(kernel_formats!(format_sizes)).chain(kernel_settings!(setting_sizes));
    for (name, size) in values {
        let must_exist = [(name, (&[0_u8; 8][..size], true))].into_iter().collect();
        object()
            .patch_map_data(must_exist)
            .unwrap_or_else(|error| panic!("no program reads {name}: {error}"));
    }
}

#[test]
fn the_maps_fit_into_four_megabytes() {
    let object = object();
    let bytes = object.maps.values().map(|map| {
        let entry = u64::from(map.key_size()) + u64::from(map.value_size());
        // A ring has no entries: its size stands where their number does.
        u64::from(map.max_entries()) * entry.max(1)
    });
    let bytes: u64 = bytes.sum();
    assert!(bytes < 4 << 20, "{bytes}");
}
