//! The running kernel's tracepoints, found by name. It needs root: tracefs is root's.
//!
//! guest: all
//! old guest: all

use std::path::Path;

use healer_userspace::sense::format::{self, Shape, Storage, Wanted};

const TRACEFS: &str = "/sys/kernel/tracing";

fn place(group: &str, event: &str, field: &'static str, shape: Shape) -> format::Place {
    let format = format::read(Path::new(TRACEFS), group, event).unwrap();
    format.place(Wanted { field, shape }).unwrap()
}

#[test]
fn the_events_that_healer_reads_have_the_fields_it_reads() {
    let int = Shape::Integer { bytes: 4 };
    for (group, event, field) in [
        ("oom", "mark_victim", "pid"),
        ("sched", "sched_process_exit", "pid"),
        ("sched", "sched_process_exec", "pid"),
        ("sched", "sched_process_fork", "child_pid"),
        ("signal", "signal_generate", "sig"),
        ("sock", "inet_sock_set_state", "newstate"),
        ("tcp", "tcp_retransmit_skb", "state"),
    ] {
        let place = place(group, event, field, int);
        assert!(place.offset >= 8 && place.size == 4, "{group}/{event}.{field}: {place:?}");
        assert!(place.is_signed, "{group}/{event}.{field}: {place:?}");
    }
    for (group, event) in
        [("sock", "inet_sock_set_state"), ("tcp", "tcp_retransmit_skb"), ("tcp", "tcp_receive_reset")]
    {
        assert!(place(group, event, "skaddr", Shape::Integer { bytes: 8 }).offset >= 8, "{group}/{event}");
    }
    let filename = place("sched", "sched_process_exec", "filename", Shape::Text);
    assert_eq!(filename.storage, Storage::DataLoc);
}
