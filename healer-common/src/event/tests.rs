use super::{part::TaskRef, *};

fn header(kind: EventKind) -> Header {
    Header { at_ns: 7, kind: kind as u32, tgid: 41, cgroup_id: 99, cgroup_hierarchy: 2, pid: 42 }
}

fn samples() -> Vec<Event> {
    let task = TaskRef { start_boot_ns: 5, tgid: 41, uid: 1000, comm: *b"victim\0\0\0\0\0\0\0\0\0\0" };
    vec![
        Event::ProcessExit(process_exit::ProcessExit { task, wait_status: 0x8b, ..Wire::ZERO }),
        Event::ProcessExec(process_exec::ProcessExec { task, flags: 1, ..Wire::ZERO }),
        Event::SignalSent(signal_sent::SignalSent { target: task, signal: 9, si_code: -6, ..Wire::ZERO }),
        Event::OomKill(oom_kill::OomKill { victim: task, scope: 1, ..Wire::ZERO }),
        Event::SocketState(socket_state::SocketState { remote_port: 80, error: 111, ..Wire::ZERO }),
        Event::TcpRetransmit(tcp_retransmit::TcpRetransmit { remote_port: 80, error: -1, ..Wire::ZERO }),
        Event::SyscallError(syscall_error::SyscallError { task, errno: 24, count: 1, ..Wire::ZERO }),
        Event::ReclaimStall(reclaim_stall::ReclaimStall { task, scope: 1, pages: 2, ..Wire::ZERO }),
        Event::TaskHung(task_hung::TaskHung { task, pid: 42, blocker_owner: 43, ..Wire::ZERO }),
    ]
}

#[test]
fn every_kind_survives_the_wire() {
    let samples = samples();
    assert_eq!(samples.len(), EventKind::ALL.len(), "a sample per kind");
    for event in samples {
        let mut room = [0xAA; RECORD_MAX];
        let bytes = event.encode(header(event.kind()), &mut room).unwrap();
        let decoded = Event::decode(bytes);
        assert_eq!(decoded, Ok((header(event.kind()), event)));
    }
}

#[test]
fn the_field_order_is_the_memory_order() {
    let event = signal_sent::SignalSent { signal: 11, ..Wire::ZERO };
    let mut room = [0; RECORD_MAX];
    let header = header(EventKind::SignalSent);
    let bytes = Event::SignalSent(event).encode(header, &mut room).unwrap();
    let at = size_of::<Header>() + core::mem::offset_of!(signal_sent::SignalSent, signal);
    assert_eq!(bytes[at], 11);
    assert_eq!(bytes.len(), size_of::<Record<signal_sent::SignalSent>>());
}

#[test]
fn every_other_length_is_refused() {
    for event in samples() {
        let mut room = [0; RECORD_MAX];
        let header = header(event.kind());
        let len = event.encode(header, &mut room).unwrap().len();
        let may_end = size_of::<Record<process_exit::ProcessEnd>>();
        let is_whole = |bytes| bytes == len || (event.kind() == EventKind::ProcessExit && bytes == may_end);
        for wrong in (0..RECORD_MAX).filter(|bytes| !is_whole(*bytes)) {
            let error = Event::decode(&room[..wrong]).unwrap_err();
            let expected_short = wrong < len;
            let is_short = matches!(error, DecodeError::TooShort { got } if got == wrong);
            assert_eq!(is_short, expected_short, "{wrong} bytes: {error}");
        }
    }
}

#[test]
fn an_end_without_arguments_may_be_sent_without_their_room() {
    let [Event::ProcessExit(mut exit), ..] = samples()[..] else { panic!("the first sample is an end") };
    exit.args.len = 1;
    let mut room = [0xAA; RECORD_MAX];
    let header = header(EventKind::ProcessExit);
    Event::ProcessExit(exit).encode(header, &mut room).unwrap();
    let cut = &room[..size_of::<Record<process_exit::ProcessEnd>>()];
    exit.args = Wire::ZERO;
    assert_eq!(Event::decode(cut), Ok((header, Event::ProcessExit(exit))));
}

#[test]
fn unknown_kinds_and_impossible_values_are_named() {
    let mut room = [0; RECORD_MAX];
    room[8] = 200;
    assert_eq!(Event::decode(&room), Err(DecodeError::UnknownKind(200)));

    let event = Event::OomKill(oom_kill::OomKill { scope: 9, ..Wire::ZERO });
    let bytes = event.encode(header(event.kind()), &mut room).unwrap();
    let (kind, field) = (4, "scope");
    assert_eq!(Event::decode(bytes), Err(DecodeError::Malformed { kind, field }));
}

#[test]
fn wait_status_is_read_as_wait_does() {
    let by_signal = process_exit::ProcessExit { wait_status: 0x8b, ..Wire::ZERO };
    assert_eq!((by_signal.signal(), by_signal.exit_code()), (Some(11), None));
    assert!(by_signal.dumped_core());
    let by_code = process_exit::ProcessExit { wait_status: 3 << 8, ..Wire::ZERO };
    assert_eq!((by_code.signal(), by_code.exit_code()), (None, Some(3)));
}

#[test]
fn no_bytes_make_the_decoder_panic() {
    // xorshift64: the same bytes in every run.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = [0; RECORD_MAX];
    for round in 0..20_000_usize {
        for byte in &mut bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        bytes[8..12].copy_from_slice(&((round % 8) as u32).to_ne_bytes());
        let _outcome = Event::decode(&bytes[..round % (RECORD_MAX + 1)]);
    }
}
