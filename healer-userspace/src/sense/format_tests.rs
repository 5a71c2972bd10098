use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const CLOUD_6_1: &str = include_str!("../../../tests/fixtures/tracefs-formats/6.1-cloud-amd64.txt");
const RT_6_1: &str = include_str!("../../../tests/fixtures/tracefs-formats/6.1-rt-amd64.txt");
const CLOUD_6_12: &str = include_str!("../../../tests/fixtures/tracefs-formats/6.12-cloud-amd64.txt");
const HOST_6_18: &str = include_str!("../../../tests/fixtures/tracefs-formats/6.18.txt");
const ALL: [&str; 4] = [CLOUD_6_1, RT_6_1, CLOUD_6_12, HOST_6_18];

const INT: Shape = Shape::Integer { bytes: 4 };
const PID: Wanted = Wanted { field: "pid", shape: INT };

/// The blocks of a dump: an event's name, then its indented field lines.
fn blocks(dump: &str) -> Vec<(&str, String)> {
    let mut blocks: Vec<(&str, String)> = Vec::new();
    for line in dump.lines() {
        match blocks.last_mut() {
            Some((_, text)) if line.starts_with(' ') => writeln!(text, "{line}").unwrap(),
            _ => blocks.push((line, String::new())),
        }
    }
    // An event that the kernel does not have is a name without lines.
    blocks.retain(|(_, text)| !text.is_empty());
    blocks
}

fn event(dump: &str, name: &str) -> Option<Format> {
    let (_, text) = blocks(dump).into_iter().find(|(event, _)| *event == name)?;
    Format::parse(&text).ok()
}

fn offsets(name: &str, field: &'static str, shape: Shape) -> [Option<u16>; 4] {
    ALL.map(|dump| Some(event(dump, name)?.place(Wanted { field, shape }).ok()?.offset))
}

#[test]
fn every_event_of_every_dump_is_understood() {
    for dump in ALL {
        let mut understood = 0;
        for (name, text) in blocks(dump) {
            let format = Format::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(format.fields().len(), text.lines().count(), "{name}");
            assert!(format.field("common_pid").is_some(), "{name}");
            understood += 1;
        }
        assert!(understood >= 19, "{understood}");
    }
}

#[test]
fn the_victims_pid_is_found_where_each_kernel_keeps_it() {
    assert_eq!(offsets("oom/mark_victim", "pid", INT), [Some(8), Some(12), Some(8), Some(8)]);
    let total = offsets("oom/mark_victim", "total_vm", Shape::Integer { bytes: 8 });
    assert_eq!(total, [Some(16), Some(24), Some(16), Some(16)]);
}

#[test]
fn sockets_and_their_addresses_are_found_where_each_kernel_keeps_them() {
    let socket = Shape::Integer { bytes: 8 };
    let state = "sock/inet_sock_set_state";
    assert_eq!(offsets(state, "skaddr", socket), [Some(8), Some(16), Some(8), Some(8)]);
    assert_eq!(offsets(state, "daddr_v6", Shape::Text), [Some(56), Some(64), Some(56), Some(56)]);
    assert_eq!(offsets("tcp/tcp_receive_reset", "skaddr", socket), [Some(8), Some(16), Some(8), Some(8)]);
    let error = offsets("tcp/tcp_retransmit_skb", "err", INT);
    assert_eq!(error, [None, None, None, Some(76)]);
}

#[test]
fn the_childs_pid_moved_when_its_name_left_the_record() {
    let pids = offsets("sched/sched_process_fork", "child_pid", INT);
    assert_eq!(pids, [Some(44), Some(48), Some(44), Some(20)]);
    let storage = |dump| event(dump, "sched/sched_process_fork").unwrap().field("child_comm").unwrap().place;
    assert_eq!((storage(CLOUD_6_12).storage, storage(CLOUD_6_12).size), (Storage::Array, 16));
    assert_eq!((storage(HOST_6_18).storage, storage(HOST_6_18).size), (Storage::DataLoc, 4));
}

#[test]
fn what_only_some_kernels_have_is_missing_in_words_on_the_others() {
    let dead = offsets("sched/sched_process_exit", "group_dead", Shape::Integer { bytes: 1 });
    assert_eq!(dead, [None, None, None, Some(32)]);
    let lazy = offsets("oom/mark_victim", "common_preempt_lazy_count", Shape::Integer { bytes: 1 });
    assert_eq!(lazy, [None, Some(8), None, None]);
    let exit = event(CLOUD_6_1, "sched/sched_process_exit").unwrap();
    let wanted = Wanted { field: "group_dead", shape: Shape::Integer { bytes: 1 } };
    let words = exit.resolve(&[PID, wanted])[1].clone().unwrap_err().to_string();
    assert_eq!(words, "the event has no field group_dead");
}

#[test]
fn a_field_of_another_size_or_kind_is_refused() {
    let fork = event(HOST_6_18, "sched/sched_process_fork").unwrap();
    for (field, shape) in
        [("child_pid", Shape::Integer { bytes: 8 }), ("child_pid", Shape::Text), ("child_comm", INT)]
    {
        let refused = fork.place(Wanted { field, shape });
        assert!(matches!(refused, Err(Unfit::Shape { .. })), "{field}: {refused:?}");
    }
    assert!(fork.place(Wanted { field: "child_comm", shape: Shape::Text }).is_ok());
}

#[test]
fn a_whole_file_with_its_head_and_its_print_format_is_read() {
    let text = "name: mark_victim\nID: 609\nformat:\n\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
                \tfield:int pid;\toffset:8;\tsize:4;\tsigned:1;\n\nprint fmt: \"pid=%d\\n\n field:%d\", REC->pid\n";
    let format = Format::parse(text).unwrap();
    assert_eq!(format.fields().len(), 2);
    assert_eq!(format.place(PID).unwrap().offset, 8);
}

#[test]
fn names_are_told_from_types() {
    let split = |text| split_declaration(text).unwrap();
    assert_eq!(split("const void * skaddr"), ("const void *", "skaddr", false));
    assert_eq!(split("void *skaddr"), ("void *", "skaddr", false));
    assert_eq!(split("unsigned long args[6]"), ("unsigned long", "args", true));
    assert_eq!(split("char comm[TASK_COMM_LEN]"), ("char", "comm", true));
    assert_eq!(split("__data_loc char[] comm"), ("__data_loc char[]", "comm", false));
    assert_eq!(split_declaration("pid"), None);
}

#[test]
fn what_is_no_format_is_an_error_with_its_line() {
    assert_eq!(Format::parse(""), Err(FormatError::Empty));
    let text = "ID: 1\n\tfield:int pid;\toffset:x;\tsize:4;\tsigned:1;\n";
    assert_eq!(Format::parse(text), Err(FormatError::Line { line: 2 }));
    let wide = "\tfield:int pid;\toffset:65536;\tsize:4;\tsigned:1;\n";
    assert_eq!(Format::parse(wide), Err(FormatError::Line { line: 1 }));
}

#[test]
fn the_bytes_of_a_record_are_found_beside_and_behind_a_word() {
    let mut record = vec![0; 8];
    record.extend(7_i32.to_ne_bytes());
    record.extend((16_u32 | 3 << 16).to_ne_bytes());
    record.extend(b"abc");
    let place = |offset, storage| Place { offset, size: 4, is_signed: false, storage };
    assert_eq!(place(8, Storage::Scalar).bytes(&record), Some(&7_i32.to_ne_bytes()[..]));
    assert_eq!(place(12, Storage::DataLoc).bytes(&record), Some(&b"abc"[..]));
    record[12] = 0;
    assert_eq!(place(12, Storage::RelLoc).bytes(&record), Some(&b"abc"[..]));
    assert_eq!(place(12, Storage::DataLoc).bytes(&record[..14]), None);
    record[12] = 17;
    assert_eq!(place(12, Storage::DataLoc).bytes(&record), None);
}

#[test]
fn an_event_that_is_not_there_is_told_in_words() {
    let error = read(Path::new("/nonexistent"), "oom", "mark_victim").unwrap_err();
    assert!(error.to_string().starts_with("this kernel has no event oom/mark_victim"), "{error}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        drop(Format::parse(&text));
    }

    #[test]
    fn any_field_line_is_read_or_refused(
        declared in "\\PC{0,40}", offset in any::<i64>(), size in any::<u32>(), record in any::<Vec<u8>>(),
    ) {
        let line = format!("\tfield:{declared};\toffset:{offset};\tsize:{size};\tsigned:1;\n");
        for field in Format::parse(&line).unwrap_or_default().fields() {
            let bytes = field.place.bytes(&record);
            prop_assert!(bytes.is_none_or(|bytes| bytes.len() <= record.len()));
        }
    }

    #[test]
    fn any_cut_or_changed_dump_is_read_or_refused(
        which in 0..4_usize, cut in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), byte: u8,
    ) {
        let mut bytes = ALL[which].as_bytes().to_vec();
        let at = place.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len()));
        drop(Format::parse(&String::from_utf8_lossy(&bytes)));
    }
}
