//! The kernel's types as it tells them (Documentation/bpf/btf.rst), but for the numbers of its tracepoints: by such a
//! number it refuses a typed program, while every offset is right.

use std::{ops::Range, path::Path};

const RUNNING: &str = "/sys/kernel/btf/vmlinux";
/// Name, kind and what it refers to: all that a typedef or a function has.
const HEAD: usize = 12;
const TYPEDEF: u32 = 8;
const FUNCTION: u32 = 12;

/// Writes them to `file`.
///
/// # Panics
/// If the kernel does not tell its types, or some of a kind that is not known here.
pub fn with_wrong_hooks(file: &Path) {
    let mut types = std::fs::read(RUNNING).expect("the kernel tells its types");
    let all = Records::of(&types);
    let hooks = all.that_are(TYPEDEF, |name| name.starts_with(b"btf_trace_"));
    // To the scan of the tasks one of them is more than a name.
    let functions = all.that_are(FUNCTION, |name| !name.starts_with(b"bpf_iter_"));
    assert!(!hooks.is_empty() && hooks.len() <= functions.len(), "{} hooks", hooks.len());
    for (hook, function) in hooks.into_iter().zip(functions) {
        for byte in 0..HEAD {
            types.swap(hook + byte, function + byte);
        }
    }
    std::fs::write(file, types).expect("the scratch directory can be written");
}

struct Records<'a> {
    bytes: &'a [u8],
    strings: Range<usize>,
    starts: Vec<usize>,
}

impl<'a> Records<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let length = word(bytes, 4) as usize;
        let section = |at: usize| {
            let start = length + word(bytes, at) as usize;
            start..start + word(bytes, at + 4) as usize
        };
        let (types, strings) = (section(8), section(16));
        let (mut at, mut starts) = (types.start, Vec::new());
        while at < types.end {
            starts.push(at);
            at += HEAD + rest(word(bytes, at + 4));
        }
        Self { bytes, strings, starts }
    }

    fn that_are(&self, kind: u32, is_it: impl Fn(&[u8]) -> bool) -> Vec<usize> {
        let of_kind = |at: &usize| kind_of(word(self.bytes, at + 4)) == kind && is_it(self.name(*at));
        self.starts.iter().copied().filter(of_kind).collect()
    }

    fn name(&self, at: usize) -> &[u8] {
        let name = &self.bytes[self.strings.clone()][word(self.bytes, at) as usize..];
        name.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

const fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Bytes after the head (`btf_type_size` in tools/lib/bpf/btf.c).
fn rest(info: u32) -> usize {
    let elements = (info & 0xffff) as usize;
    match kind_of(info) {
        2 | 7 | 8 | 9 | 10 | 11 | 12 | 16 | 18 => 0,
        1 | 14 | 17 => 4,
        3 => 12,
        6 | 13 => 8 * elements,
        4 | 5 | 15 | 19 => 12 * elements,
        kind => panic!("a type of kind {kind}"),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes[at..].first_chunk().expect("it is not cut short");
    u32::from_ne_bytes(*four)
}
