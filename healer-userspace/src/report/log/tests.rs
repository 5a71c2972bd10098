use std::{
    io,
    sync::{Arc, Mutex},
};

use super::*;
use crate::{engine::time::BootTime, report::wall::Now};

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("one thread").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: Format, colour: bool, what: impl FnOnce()) -> String {
    let buffer = Buffer::default();
    let wall = jiff::Timestamp::from_millisecond(1_700_000_000_123).expect("in range");
    let clock: ReadClock = Arc::new(move || Now { boot: BootTime(0), wall });
    let writer = buffer.clone();
    let dispatch = dispatch(format, clock, colour, move || writer.clone(), "info").expect("valid");
    tracing::dispatcher::with_default(&dispatch, what);
    let bytes = buffer.0.lock().expect("one thread").clone();
    String::from_utf8(bytes).expect("UTF-8")
}

fn hostile() -> Line {
    Line {
        level: Level::Warn,
        incident: "i1".into(),
        workload: "supervise/web".into(),
        record: "diagnosis",
        class: "down",
        part: "",
        text: "web\x1b[2J\nforged line is down".into(),
        mood: super::lines::Mood::Bad,
    }
}

#[test]
fn a_hostile_name_makes_one_harmless_line() {
    assert_eq!(
        logged(Format::Pretty, false, || write(&hostile())),
        "22:13:20.123Z i1 web\\x1b[2J\\nforged line is down\n"
    );
}

#[test]
fn colour_surrounds_the_sentence_only() {
    assert_eq!(
        logged(Format::Pretty, true, || write(&Line { part: "act", ..hostile() })),
        "22:13:20.123Z i1   act     \x1b[31mweb\\x1b[2J\\nforged line is down\x1b[0m\n"
    );
}

#[test]
fn machines_get_one_object_per_line() {
    let text = logged(Format::Json, true, || {
        write(&hostile());
        tracing::info!(sensors = 3, "ready");
    });
    assert_eq!(
        text,
        concat!(
            r#"{"class":"down","incident":"i1","level":"warn","message":"web\\x1b[2J\\nforged line is down","record":"diagnosis","target":"healer","time":"2023-11-14T22:13:20.123000000Z","workload":"supervise/web"}"#,
            "\n",
            r#"{"level":"info","message":"ready","sensors":3,"target":"healer_userspace::report::log::tests","time":"2023-11-14T22:13:20.123000000Z"}"#,
            "\n"
        )
    );
}

#[test]
fn plain_events_keep_their_fields_and_their_level() {
    let text = logged(Format::Pretty, false, || {
        tracing::warn!(sensor = "oom_kill", errno = 1, "cannot attach\x07");
        tracing::debug!("not shown");
    });
    assert_eq!(text, "22:13:20.123Z warning cannot attach\\x07 errno=1 sensor=oom_kill\n");
}
