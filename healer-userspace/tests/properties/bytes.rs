//! Bytes that nobody can vouch for: kernel records, policy files, traces.

use std::path::Path;

use healer_common::event::{DecodeError, Event, RECORD_MAX};
use healer_userspace::{
    config::{Sources, load, load::DEFAULT_POLICY},
    engine::{detect, time::BootTime},
    replay,
    signal::interpret,
};
use proptest::prelude::*;

/// Anything, headers of known kinds with anything behind them, and records of the right length with some bytes set.
pub(crate) fn record() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..=RECORD_MAX);
    let known = (any::<u64>(), 0_u32..12, prop::collection::vec(any::<u8>(), 0..=RECORD_MAX), any::<bool>());
    let known = known.prop_map(|(at, kind, rest, zeroes)| {
        let mut bytes = at.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(if zeroes { vec![0; rest.len()] } else { rest });
        bytes
    });
    prop_oneof![1 => noise, 2 => known, 5 => of_right_length()]
}

/// Where a field ends up matters, so a few bytes of many are set: all of them random are refused at the first check.
fn of_right_length() -> impl Strategy<Value = Vec<u8>> {
    let lengths: Vec<(u32, usize)> = (0..64).filter_map(|kind| Some((kind, length_of(kind)?))).collect();
    assert!(4 <= lengths.len(), "{lengths:?}");
    let pokes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40);
    let fill = prop_oneof![3 => Just(0_u8), 1 => Just(1_u8), 1 => Just(0xff_u8)];
    (prop::sample::select(lengths), any::<u64>(), fill, pokes).prop_map(
        |((kind, length), at, fill, pokes)| {
            let mut bytes = with_header(kind, at, length, fill);
            for (index, value) in pokes {
                let place = index.index(length - HEAD) + HEAD;
                bytes[place] = value;
            }
            bytes
        },
    )
}

/// Time stamp and kind.
const HEAD: usize = 12;

fn with_header(kind: u32, at: u64, length: usize, fill: u8) -> Vec<u8> {
    let mut bytes = vec![fill; length];
    bytes[..8].copy_from_slice(&at.to_ne_bytes());
    bytes[8..HEAD].copy_from_slice(&kind.to_ne_bytes());
    bytes
}

/// The one length that a record of this kind has; none for kinds that do not exist.
fn length_of(kind: u32) -> Option<usize> {
    let is_its = |length: &usize| {
        let bytes = with_header(kind, 1, *length, 0);
        matches!(Event::decode(&bytes), Ok(_) | Err(DecodeError::Malformed { .. }))
    };
    (HEAD..=RECORD_MAX).find(is_its)
}

pub(crate) fn decode(bytes: &[u8]) {
    // What is a record is so for every length but its own no more.
    for end in [bytes.len(), bytes.len() / 2] {
        if let Ok((header, event)) = Event::decode(&bytes[..end]) {
            // The meaning of a sound record may be nonsense, but has words.
            assert!(!format!("{:?}", interpret(&header, &event)).is_empty());
            let mut room = [0; RECORD_MAX];
            let again = event.encode(header, &mut room).expect("what was decoded fits");
            assert_eq!(Event::decode(again).expect("it decodes again").0.kind, header.kind);
        }
    }
}

/// The default policy with up to four pieces replaced by something else.
pub(crate) fn policy() -> impl Strategy<Value = String> {
    prop::collection::vec(edit(), 1..=4).prop_map(|edits| {
        let mut bytes = DEFAULT_POLICY.as_bytes().to_vec();
        for (at, cut, put) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, put.into_bytes());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn edit() -> impl Strategy<Value = (prop::sample::Index, usize, String)> {
    let put = prop_oneof![
        "[a-z0-9:{}\\[\\]&*!|>'\"%@`#,\\-? \n\t]{0,16}",
        "\\PC{0,12}",
        Just("&a [*a, *a]".to_owned()),
        Just("!!binary ".to_owned()),
        Just(" 99999999999999999999d".to_owned()),
        Just("[".repeat(300)),
        Just("\u{feff}".to_owned()),
        Just("999h".to_owned()),
        Just("-1".to_owned()),
        Just("1e400".to_owned()),
    ];
    (any::<prop::sample::Index>(), 0_usize..60, put)
}

pub(crate) fn check_policy(text: &str) {
    if let Err(problems) = load::check_text(Path::new("policy.yaml"), text, &detect::is_built) {
        let shown = problems.to_string();
        assert!(!shown.is_empty() && shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    }
}

/// Lines of a recorded trace with pieces replaced, and noise.
pub(crate) fn trace() -> impl Strategy<Value = Vec<u8>> {
    const RECORDED: &str = include_str!("../../../tests/traces/down/killed_and_restarted.jsonl");
    let put = prop_oneof!["[0-9]{1,25}", "\\PC{0,10}", Just("null".to_owned()), Just("-1".to_owned())];
    (0..RECORDED.len(), 0_usize..30, put).prop_map(|(at, cut, put)| {
        let bytes = RECORDED.as_bytes();
        [&bytes[..at], put.as_bytes(), &bytes[(at + cut).min(bytes.len())..]].concat()
    })
}

pub(crate) fn replay_trace(bytes: &[u8]) {
    match replay::read(bytes) {
        Err(error) => assert!(format!("{error:#}").contains("line "), "{error:#}"),
        Ok(signals) => {
            let loaded = healer_userspace::config::load(&Sources::default(), &detect::is_built);
            let policies = loaded.unwrap_or_else(|problems| panic!("{problems}")).policies;
            for report in replay::replay(&signals, policies) {
                let line = replay::line(&report, BootTime(0));
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
    }
}
