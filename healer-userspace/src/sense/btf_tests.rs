use super::*;

/// Builds BTF by hand, so that the tests need no kernel.
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Builder {
    fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0] }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn push(&mut self, name: &str, info: u32, size: u32, extra: &[u32]) {
        let name = self.name(name);
        for word in [name, info, size].iter().chain(extra) {
            self.types.extend(word.to_ne_bytes());
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        self.with_header(&[24, 0, types, types, strings], &[])
    }

    /// As Linux 7.1 has it: bytes once and per element, of each kind.
    fn bytes_with_layouts(&self, layouts: &[[u8; 2]]) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let layouts: Vec<u8> = layouts.iter().flat_map(|[once, each]| [*once, *each, 0, 0]).collect();
        let len = layouts.len() as u32;
        self.with_header(&[32, 0, types, types + len, strings, types, len], &layouts)
    }

    fn with_header(&self, header: &[u32], layouts: &[u8]) -> Vec<u8> {
        let header = [0x1_eb9f_u32].iter().chain(header).flat_map(|word| word.to_ne_bytes());
        header.chain(self.types.iter().chain(layouts).chain(&self.strings).copied()).collect()
    }
}

/// 1 int, 2 anonymous union {deep}, 3 struct task {state, <2>, bits:3}, 4 enum, 5 proto, 6 ptr, 7 typedef, 8 ptr to task
fn sample() -> Vec<u8> {
    let mut b = Builder::new();
    b.push("int", 1 << 24, 4, &[32]);
    let deep = b.name("deep");
    b.push("", 5 << 24 | 1, 8, &[deep, 1, 32]);
    let (state, bits) = (b.name("state"), b.name("bits"));
    let members = [state, 1, 0, 0, 2, 64, bits, 1, 3 << 24 | 130];
    b.push("task", 1 << 31 | 4 << 24 | 3, 24, &members);
    let minus = b.name("MINUS");
    b.push("numbers", 6 << 24 | 1, 4, &[minus, u32::MAX]);
    b.push("", 13 << 24 | 3, 0, &[0, 0, 0, 8, 0, 1]);
    b.push("", 2 << 24, 5, &[]);
    b.push("btf_trace_died", 8 << 24, 6, &[]);
    b.push("", 2 << 24, 3, &[]);
    b.bytes()
}

fn wanted() -> BTreeSet<&'static str> {
    BTreeSet::from(["task", "numbers", "btf_trace_died"])
}

#[test]
fn members_are_found_through_anonymous_ones() {
    let bytes = sample();
    let btf = parse(&bytes, &wanted()).unwrap();
    assert_eq!(btf.offset_of("task", "state"), Some(0));
    assert_eq!(btf.offset_of("task", "deep"), Some(12));
    assert_eq!(btf.offset_of("task", "absent|deep"), Some(12));
    assert_eq!(btf.offset_of("task", "absent"), None);
    assert_eq!(btf.size_of("task"), Some(24));
}

#[test]
fn an_element_of_an_array_has_its_place() {
    let mut b = Builder::new();
    b.push("long", 1 << 24, 8, &[64]);
    b.push("", 3 << 24, 0, &[1, 1, 31]);
    let (pad, regs) = (b.name("pad"), b.name("regs"));
    b.push("task", 4 << 24 | 2, 256, &[pad, 1, 0, regs, 2, 64]);
    let bytes = b.bytes();
    let btf = parse(&bytes, &wanted()).unwrap();
    assert_eq!(btf.offset_of("task", "absent|regs"), Some(8));
    assert_eq!(btf.offset_of("task", "regs[29]"), Some(8 + 29 * 8));
    for none in ["regs[31]", "regs[-1]", "regs[", "pad[0]", "[1]"] {
        assert_eq!(btf.offset_of("task", none), None, "{none}");
    }
}

#[test]
fn a_bitfield_has_a_place_but_no_byte_offset() {
    let bytes = sample();
    let btf = parse(&bytes, &wanted()).unwrap();
    let member = btf.member("task", "bits").unwrap();
    assert_eq!((member.bit_offset, member.bits), (130, 3));
    assert_eq!(btf.offset_of("task", "bits"), None);
}

#[test]
fn enums_and_tracepoints_are_read() {
    let bytes = sample();
    let btf = parse(&bytes, &wanted()).unwrap();
    assert_eq!(btf.enum_value("numbers", "MINUS"), Some(-1));
    assert_eq!(btf.typedef_id("btf_trace_died"), Some(7));
    let arguments = btf.tracepoint_arguments("died").unwrap();
    assert_eq!(arguments, [Argument::Pointer("task"), Argument::Integer(4)]);
}

#[test]
fn a_kind_that_is_new_is_passed_over_if_its_layout_is_told() {
    const NEW: u32 = 0x41;
    let mut b = Builder::new();
    b.push("new", NEW << 24 | 2, 0, &[7, 8, 9]);
    let state = b.name("state");
    b.push("task", 4 << 24 | 1, 24, &[state, 1, 64]);
    let mut layouts = [[0; 2]; NEW as usize + 1];
    layouts[NEW as usize] = [4, 4];
    let told = b.bytes_with_layouts(&layouts);
    assert_eq!(parse(&told, &wanted()).unwrap().offset_of("task", "state"), Some(8));
    let untold = b.bytes();
    let unknown = BtfError::UnknownKind { id: 1, kind: NEW as u8 };
    assert_eq!(parse(&untold, &wanted()).err(), Some(unknown));
}

#[test]
fn a_section_of_very_many_is_passed_over() {
    const MANY: u32 = 70_000;
    let mut b = Builder::new();
    b.push(".data", 15 << 24 | MANY, 0, &vec![1; 3 * MANY as usize]);
    let state = b.name("state");
    b.push("task", 4 << 24 | 1, 24, &[state, 1, 64]);
    let bytes = b.bytes();
    assert_eq!(parse(&bytes, &wanted()).unwrap().offset_of("task", "state"), Some(8));
}

#[test]
fn a_typedef_of_itself_ends() {
    let mut b = Builder::new();
    b.push("btf_trace_loop", 8 << 24, 1, &[]);
    let bytes = b.bytes();
    let btf = parse(&bytes, &BTreeSet::from(["btf_trace_loop"])).unwrap();
    assert_eq!(btf.tracepoint_arguments("loop"), None);
}

#[test]
fn a_struct_inside_itself_ends() {
    let mut b = Builder::new();
    let members: Vec<u32> = (0..200).flat_map(|_| [0, 1, 0]).collect();
    b.push("task", 4 << 24 | 200, 24, &members);
    let bytes = b.bytes();
    let btf = parse(&bytes, &BTreeSet::from(["task"])).unwrap();
    assert_eq!(btf.offset_of("task", "absent"), None);
}

#[test]
fn every_cut_is_an_error_or_fewer_types() {
    let bytes = sample();
    for len in 0..bytes.len() {
        assert!(parse(&bytes[..len], &wanted()).is_err(), "{len} bytes");
    }
}

#[test]
fn no_flipped_byte_makes_it_panic() {
    let sound = sample();
    for at in 0..sound.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = sound.clone();
            bytes[at] = value;
            if let Ok(btf) = parse(&bytes, &wanted()) {
                let _found = btf.member("task", "deep");
                let _found = btf.enum_value("numbers", "MINUS");
                let _found = btf.tracepoint_arguments("died");
                let _found = btf.is_array_of("task", "deep", "task");
            }
        }
    }
}
