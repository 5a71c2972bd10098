use super::*;
use crate::sense::poll::sockets::{ESTABLISHED, Info};

const PORT: u16 = 80;
const OWNER: u32 = 7;

fn owners() -> Owners {
    Owners {
        by_inode: BTreeMap::from([(5, OWNER)]),
        by_port: BTreeMap::from([(PORT, OWNER)]),
        ..Owners::default()
    }
}

/// `unread` of `received` bytes; `out` segments sent.
fn connection(cookie: u64, unread: u32, received: u64, out: u32) -> Socket {
    let info = Info { bytes_received: received, data_segments_out: out, ..Info::default() };
    Socket {
        cookie,
        state: ESTABLISHED,
        local_port: PORT,
        inode: 5,
        receive_queue: unread,
        info: Some(info),
        ..Socket::default()
    }
}

fn at(seconds: u64) -> BootTime {
    BootTime(100_000_000_000) + Duration::from_secs(seconds)
}

fn run(ledger: &mut Ledger, second: u64, sockets: &[Socket]) -> Waiting {
    ledger.update(at(second), sockets, &owners()).waiting.remove(&OWNER).unwrap_or_default()
}

#[test]
fn bytes_are_unread_since_the_last_byte_was_read() {
    let mut ledger = Ledger::default();
    run(&mut ledger, 0, &[connection(1, 6, 6, 0)]);
    assert_eq!(run(&mut ledger, 5, &[connection(1, 6, 6, 0)]).unread.unwrap().oldest_ms, 5000);
    // More has come, nothing was read.
    assert_eq!(run(&mut ledger, 7, &[connection(1, 9, 9, 0)]).unread.unwrap().oldest_ms, 7000);
    let read = run(&mut ledger, 8, &[connection(1, 5, 9, 0)]);
    assert!(read.moved);
    assert_eq!(read.unread.unwrap().oldest_ms, 0);
}

#[test]
fn whoever_cannot_send_need_not_read() {
    let mut ledger = Ledger::default();
    for second in 0..20 {
        let socket = Socket { send_queue: 4096, ..connection(1, 6, 6, 3) };
        assert!(!run(&mut ledger, second, &[socket]).is_worth_saying());
    }
}

#[test]
fn a_fin_alone_is_no_work() {
    let mut ledger = Ledger::default();
    for second in 0..20 {
        let socket = Socket { state: CLOSE_WAIT, ..connection(1, 1, 6, 1) };
        assert_eq!(run(&mut ledger, second, &[socket]).unread, None);
    }
}

#[test]
fn a_queue_that_shrinks_is_served() {
    let mut ledger = Ledger::default();
    let queue = |length| Socket { state: LISTEN, receive_queue: length, ..connection(9, 0, 0, 0) };
    run(&mut ledger, 0, &[queue(3)]);
    assert_eq!(run(&mut ledger, 4, &[queue(5)]).backlog.unwrap().oldest_ms, 4000);
    assert_eq!(run(&mut ledger, 5, &[queue(4)]).backlog.unwrap().oldest_ms, 0);
    assert_eq!(run(&mut ledger, 6, &[queue(0)]).backlog, None);
}

#[test]
fn requests_without_answer_are_counted_beside_what_is_normal() {
    let mut ledger = Ledger::default();
    let all = |received, out| [1, 2, 3].map(|cookie| connection(cookie, 0, received, out));
    run(&mut ledger, 0, &all(0, 0));
    run(&mut ledger, 1, &all(10, 1));
    run(&mut ledger, 2, &all(20, 1));
    let waiting = run(&mut ledger, 14, &all(20, 1));
    assert!(waiting.is_worth_saying());
    let unanswered = waiting.unanswered.unwrap();
    assert_eq!((unanswered.sockets, unanswered.oldest_ms, unanswered.answered), (3, 12_000, 3));
    assert_eq!(run(&mut ledger, 15, &all(20, 2)).unanswered, None);
    // The slow answers are normal from now on.
    run(&mut ledger, 16, &all(30, 2));
    assert_eq!(run(&mut ledger, 17, &all(30, 2)).unanswered.unwrap().slowest_ms, 13_000);
}

#[test]
fn a_peer_that_sends_on_does_not_wait_for_answers() {
    let mut ledger = Ledger::default();
    run(&mut ledger, 0, &[connection(1, 0, 0, 0)]);
    run(&mut ledger, 1, &[connection(1, 0, 10, 0)]);
    run(&mut ledger, 2, &[connection(1, 0, 20, 0)]);
    assert_eq!(run(&mut ledger, 30, &[connection(1, 0, 20, 0)]).unanswered, None);
}

#[test]
fn a_troubled_socket_of_somebody_unknown_is_told() {
    let mut ledger = Ledger::default();
    let stranger = || Socket { inode: 99, ..connection(1, 6, 6, 0) };
    assert!(!ledger.update(at(0), &[stranger()], &owners()).has_strangers);
    assert!(ledger.update(at(3), &[stranger()], &owners()).has_strangers);
}

/// The kernel counts the FIN as a byte received.
#[test]
fn a_client_that_gives_up_has_not_asked_again() {
    let mut ledger = Ledger::default();
    let asks = |out| [1, 2, 3].map(|cookie| connection(cookie, 0, 10, out));
    run(&mut ledger, 0, &[1, 2, 3].map(|cookie| connection(cookie, 0, 0, 0)));
    run(&mut ledger, 1, &asks(0));
    let gone = [1, 2, 3].map(|cookie| Socket { state: CLOSE_WAIT, ..connection(cookie, 1, 11, 0) });
    assert_eq!(run(&mut ledger, 6, &gone).unanswered.unwrap().sockets, 3);
    assert_eq!(run(&mut ledger, 35, &gone).unanswered.unwrap().oldest_ms, 34_000);
}

#[test]
fn a_connection_that_is_new_was_accepted_and_no_byte_moved() {
    let mut ledger = Ledger::default();
    let new = run(&mut ledger, 0, &[connection(1, 6, 6, 0)]);
    assert_eq!((new.accepted, new.moved, new.answered), (true, false, false));
    let read = run(&mut ledger, 1, &[connection(1, 0, 6, 0)]);
    assert_eq!((read.accepted, read.moved, read.answered), (false, true, false));
    assert!(run(&mut ledger, 2, &[connection(1, 0, 6, 1)]).answered);
}

#[test]
fn a_backlog_waits_for_all_who_have_the_listener() {
    let mut ledger = Ledger::default();
    let owners = Owners { sharers: BTreeMap::from([(5, vec![8, 9])]), ..owners() };
    let queue = |length| Socket { state: LISTEN, receive_queue: length, ..connection(9, 0, 0, 0) };
    let pass = ledger.update(at(0), &[queue(2)], &owners);
    assert!(pass.waiting[&OWNER].backlog.is_some() && !pass.waiting[&OWNER].shares);
    assert!(pass.waiting[&8].shares && pass.waiting[&9].shares);
    assert!(!ledger.update(at(1), &[queue(0)], &owners).waiting.contains_key(&8));
}

/// To the port of somebody else on the same machine.
fn client(received: u64, written: u64, sent_ms: u32, received_ms: u32) -> Socket {
    let info = Info {
        bytes_received: received,
        bytes_acked: written,
        data_segments_out: 1,
        last_data_sent_ms: sent_ms,
        last_data_received_ms: received_ms,
        ..Info::default()
    };
    Socket { local_port: 40000, info: Some(info), ..connection(1, 0, received, 1) }
}

#[test]
fn whoever_has_asked_somebody_else_waits_for_the_answer() {
    let mut ledger = Ledger::default();
    let mut asks = |second, socket| run(&mut ledger, second, &[socket]).asks;
    assert!(!asks(0, client(9, 1, 500, 400)));
    assert!(!asks(1, client(9, 1, 1500, 1400)), "it is answered");
    assert!(asks(2, client(9, 2, 100, 2400)));
    assert!(asks(3, client(9, 2, 100, 3400)), "the kernel has sent it again");
    assert!(asks(9, client(9, 3, 100, 9400)) && asks(10, client(9, 4, 100, 10_400)), "a long question");
    assert!(asks(11, client(9, 4, 1100, 11_400)));
    assert!(!asks(12, client(9, 5, 100, 12_400)), "it goes on without an answer");
    assert!(!asks(13, client(18, 5, 1100, 100)));
    assert!(asks(14, client(18, 6, 100, 1100)));
    let closing = Socket { state: CLOSE_WAIT, ..client(18, 6, 1100, 2100) };
    assert!(!asks(15, closing), "nobody is there any more");
    assert!(asks(70, client(18, 6, 56_100, 57_100)) && !asks(75, client(18, 6, 61_100, 62_100)), "a minute");
}

#[test]
fn whoever_asks_itself_waits_for_nobody_else() {
    let asked = |root| {
        let by_port = BTreeMap::from([(PORT, 8)]);
        let owners = Owners { by_port, root: BTreeMap::from([(OWNER, 7), (8, root)]), ..owners() };
        let socket = Socket { peer_port: PORT, ..client(0, 1, 100, 100) };
        Ledger::default().update(at(0), &[socket], &owners).waiting[&OWNER].asks
    };
    assert!(asked(8), "a backend that is tracked as well");
    assert!(!asked(7), "another of its own processes");
}
