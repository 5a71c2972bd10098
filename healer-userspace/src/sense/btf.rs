//! A small reader of BTF, the kernel's description of its own types
//! (Documentation/bpf/btf.rst). It keeps no copy: names are looked up in the bytes.

use std::collections::{BTreeMap, BTreeSet};

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
/// With the place of the layouts, which say how long a type of a later kind is (`struct btf_layout`, include/uapi/linux/btf.h).
const HEADER_WITH_LAYOUTS: usize = 32;
/// Hops through typedefs and qualifiers, and levels of anonymous members, that real kernels stay far below.
const DEPTH_MAX: u32 = 32;
/// Members looked at in one search: hostile input could nest without end.
const MEMBERS_MAX: u32 = 100_000;

/// Why bytes are not BTF of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    #[error("not BTF of this machine's byte order")]
    NotBtf,
    #[error("cut short at byte {0}")]
    CutShort(usize),
    #[error("type {id} is of kind {kind}, which this reader does not know")]
    UnknownKind { id: u32, kind: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Int,
    Ptr,
    Array,
    Struct,
    Enum,
    Enum64,
    Typedef,
    Qualifier,
    Func,
    FuncProto,
    Other,
}

/// One type: 12 bytes, then what its kind adds.
#[derive(Clone, Copy)]
struct Type<'a> {
    name: u32,
    kind: Kind,
    /// Bit offsets of members are packed with bit sizes.
    has_bitfields: bool,
    count: u32,
    size_or_type: u32,
    extra: &'a [u8],
}

/// What an argument of a tracepoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument<'a> {
    /// To a struct of this name, or to something nameless.
    Pointer(&'a str),
    /// Bytes.
    Integer(u32),
    Other,
}

/// A member of a struct, however deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub bit_offset: u32,
    /// 0 for a member that is no bitfield.
    pub bits: u8,
    type_id: u32,
}

/// The types, and an index of the names that were asked for.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Per kind the bytes that follow the first twelve, and those of each of its elements; empty before Linux 7.1.
    layouts: &'a [u8],
    /// Where each type begins; type 0 is `void` and has no bytes.
    starts: Vec<u32>,
    named: BTreeMap<(Kind, &'a str), u32>,
}

/// Reads BTF and indexes the structs, enums, typedefs and functions whose names are in `wanted`.
///
/// # Errors
/// [`BtfError`]; it never panics, whatever the bytes.
pub fn parse<'a>(bytes: &'a [u8], wanted: &BTreeSet<&str>) -> Result<Btf<'a>, BtfError> {
    let magic = bytes.first_chunk().ok_or(BtfError::CutShort(0))?;
    if u16::from_ne_bytes(*magic) != MAGIC {
        return Err(BtfError::NotBtf);
    }
    let field = |at| word(bytes, at).ok_or(BtfError::CutShort(at));
    let header_len = field(4)? as usize;
    if header_len < HEADER_LEN {
        return Err(BtfError::NotBtf);
    }
    let types = section(bytes, header_len, field(8)?, field(12)?)?;
    let strings = section(bytes, header_len, field(16)?, field(20)?)?;
    let layouts = match header_len {
        HEADER_WITH_LAYOUTS.. => section(bytes, header_len, field(24)?, field(28)?)?,
        _ => &[],
    };
    let mut btf = Btf { types, strings, layouts, starts: vec![0], named: BTreeMap::new() };
    btf.index(wanted)?;
    Ok(btf)
}

fn section(bytes: &[u8], base: usize, offset: u32, len: u32) -> Result<&[u8], BtfError> {
    let start = base.saturating_add(offset as usize);
    let end = start.saturating_add(len as usize);
    bytes.get(start..end).ok_or(BtfError::CutShort(bytes.len()))
}

/// Name and index of `name[3]`; no index of `name`.
fn indexed(name: &str) -> Option<(&str, Option<u32>)> {
    match name.split_once('[') {
        None => Some((name, None)),
        Some((name, index)) => Some((name, Some(index.strip_suffix(']')?.parse().ok()?))),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*four))
}

/// Kind and bytes after the first twelve (`btf_type_size` in tools/lib/bpf/btf.c).
fn shape(kind: u8, count: usize) -> Option<(Kind, usize)> {
    Some(match kind {
        1 => (Kind::Int, 4),
        2 => (Kind::Ptr, 0),
        3 => (Kind::Array, 12),
        4 | 5 => (Kind::Struct, 12 * count),
        6 => (Kind::Enum, 8 * count),
        8 => (Kind::Typedef, 0),
        9 | 10 | 11 | 18 => (Kind::Qualifier, 0),
        13 => (Kind::FuncProto, 8 * count),
        19 => (Kind::Enum64, 12 * count),
        12 => (Kind::Func, 0),
        7 | 16 => (Kind::Other, 0),
        14 | 17 => (Kind::Other, 4),
        15 => (Kind::Other, 12 * count),
        _ => return None,
    })
}

impl<'a> Btf<'a> {
    fn index(&mut self, wanted: &BTreeSet<&str>) -> Result<(), BtfError> {
        // Types take 40 bytes on average: one allocation instead of seventeen.
        self.starts.reserve(self.types.len() / 32);
        let mut at = 0;
        while at < self.types.len() {
            let id = u32::try_from(self.starts.len()).map_err(|_| BtfError::CutShort(at))?;
            let (found, next) = self.read(id, at)?;
            self.starts.push(at as u32);
            if matches!(found.kind, Kind::Struct | Kind::Enum | Kind::Enum64 | Kind::Typedef | Kind::Func)
                && let Some(name) = self.string(found.name)
                && wanted.contains(name)
            {
                self.named.entry((found.kind, name)).or_insert(id);
            }
            at = next;
        }
        Ok(())
    }

    /// The type that begins at `at`, and where the next one does.
    fn read(&self, id: u32, at: usize) -> Result<(Type<'a>, usize), BtfError> {
        let field = |at| word(self.types, at).ok_or(BtfError::CutShort(at));
        let info = field(at + 4)?;
        // Until 7.1 both were narrower, and the bits between them 0.
        let (raw_kind, count) = ((info >> 24 & 0x7f) as u8, info & 0xff_ffff);
        let known = shape(raw_kind, count as usize);
        let Some((kind, extra)) = known.or_else(|| self.laid_out(raw_kind, count as usize)) else {
            return Err(BtfError::UnknownKind { id, kind: raw_kind });
        };
        let (from, to) = (at + 12, at + 12 + extra);
        let found = Type {
            name: field(at)?,
            kind,
            has_bitfields: info >> 31 != 0,
            count,
            size_or_type: field(at + 8)?,
            extra: self.types.get(from..to).ok_or(BtfError::CutShort(from))?,
        };
        Ok((found, to))
    }

    /// Of a kind that is newer than this reader.
    fn laid_out(&self, kind: u8, count: usize) -> Option<(Kind, usize)> {
        let [once, each, ..] = *self.layouts.get(usize::from(kind) * 4..)?.first_chunk::<4>()?;
        Some((Kind::Other, usize::from(once) + usize::from(each) * count))
    }

    fn get(&self, id: u32) -> Option<Type<'a>> {
        if id == 0 {
            return None;
        }
        let at = *self.starts.get(id as usize)?;
        Some(self.read(id, at as usize).ok()?.0)
    }

    fn string(&self, offset: u32) -> Option<&'a str> {
        let rest = self.strings.get(offset as usize..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }

    /// Looks through typedefs, `const`, `volatile`, `restrict` and tags.
    fn bare(&self, mut id: u32) -> Option<Type<'a>> {
        for _hop in 0..DEPTH_MAX {
            let found = self.get(id)?;
            match found.kind {
                Kind::Typedef | Kind::Qualifier => id = found.size_or_type,
                Kind::Int
                | Kind::Ptr
                | Kind::Array
                | Kind::Struct
                | Kind::Enum
                | Kind::Enum64
                | Kind::Func
                | Kind::FuncProto
                | Kind::Other => return Some(found),
            }
        }
        None
    }

    /// The member at `path` (`a.b.c`, `a.b[3]`) of a struct or union.
    #[must_use]
    pub fn member(&self, of: &str, path: &str) -> Option<Member> {
        let mut type_id = *self.named.get(&(Kind::Struct, of))?;
        let (mut bit_offset, mut bits) = (0_u32, 0);
        for name in path.split('.') {
            let (name, index) = indexed(name)?;
            let mut budget = MEMBERS_MAX;
            let found = self.find(type_id, name, DEPTH_MAX, &mut budget)?;
            bit_offset = bit_offset.checked_add(found.bit_offset)?;
            (type_id, bits) = (found.type_id, found.bits);
            if let Some(index) = index {
                let (element, bytes) = self.element(type_id, index)?;
                bit_offset = bit_offset.checked_add(index.checked_mul(bytes)?.checked_mul(8)?)?;
                type_id = element;
            }
        }
        Some(Member { bit_offset, bits, type_id })
    }

    /// Type and bytes of the elements of an array that has one at `index`.
    fn element(&self, array: u32, index: u32) -> Option<(u32, u32)> {
        let array = self.bare(array).filter(|found| found.kind == Kind::Array)?;
        let (element, count) = (word(array.extra, 0)?, word(array.extra, 8)?);
        let found = self.bare(element).filter(|_| index < count)?;
        match found.kind {
            Kind::Int | Kind::Struct | Kind::Enum | Kind::Enum64 => Some((element, found.size_or_type)),
            Kind::Ptr => Some((element, 8)),
            Kind::Array | Kind::Typedef | Kind::Qualifier | Kind::Func | Kind::FuncProto | Kind::Other => {
                None
            }
        }
    }

    /// Byte offset of the first of the `|`-separated paths that exists and is no bitfield.
    #[must_use]
    pub fn offset_of(&self, of: &str, paths: &str) -> Option<u32> {
        let member = paths.split('|').find_map(|path| self.member(of, path))?;
        (member.bits == 0 && member.bit_offset % 8 == 0).then_some(member.bit_offset / 8)
    }

    fn find(&self, id: u32, name: &str, depth: u32, budget: &mut u32) -> Option<Member> {
        let depth = depth.checked_sub(1)?;
        let outer = self.bare(id).filter(|found| found.kind == Kind::Struct)?;
        for raw in outer.extra.chunks_exact(12) {
            *budget = budget.checked_sub(1)?;
            let member = self.read_member(&outer, raw)?;
            let its_name = self.string(word(raw, 0)?)?;
            if its_name == name {
                return Some(member);
            }
            if its_name.is_empty()
                && let Some(inner) = self.find(member.type_id, name, depth, budget)
            {
                let bit_offset = member.bit_offset.checked_add(inner.bit_offset)?;
                return Some(Member { bit_offset, ..inner });
            }
        }
        None
    }

    fn read_member(&self, outer: &Type<'_>, raw: &[u8]) -> Option<Member> {
        let packed = word(raw, 8)?;
        let (bit_offset, bits) =
            if outer.has_bitfields { (packed & 0xff_ffff, (packed >> 24) as u8) } else { (packed, 0) };
        Some(Member { bit_offset, bits, type_id: word(raw, 4)? })
    }

    /// Bytes of the struct or union `name`.
    #[must_use]
    pub fn size_of(&self, name: &str) -> Option<u32> {
        let id = *self.named.get(&(Kind::Struct, name))?;
        Some(self.get(id)?.size_or_type)
    }

    /// Whether the member at `path` is an array of the struct `element`.
    #[must_use]
    pub fn is_array_of(&self, of: &str, path: &str, element: &str) -> bool {
        let array = self
            .member(of, path)
            .and_then(|member| self.bare(member.type_id))
            .filter(|found| found.kind == Kind::Array);
        array
            .and_then(|array| self.bare(word(array.extra, 0)?))
            .is_some_and(|found| self.string(found.name) == Some(element))
    }

    /// The value of `constant` in `enum name`.
    #[must_use]
    pub fn enum_value(&self, name: &str, constant: &str) -> Option<i64> {
        let narrow = self.named.get(&(Kind::Enum, name));
        let id = narrow.or_else(|| self.named.get(&(Kind::Enum64, name)))?;
        let found = self.get(*id)?;
        let entry = if found.kind == Kind::Enum { 8 } else { 12 };
        for raw in found.extra.chunks_exact(entry) {
            if self.string(word(raw, 0)?) == Some(constant) {
                let low = word(raw, 4)?;
                return Some(match word(raw, 8) {
                    Some(high) => (i64::from(high) << 32) | i64::from(low),
                    None => i64::from(low as i32),
                });
            }
        }
        None
    }

    /// The id of `typedef name`.
    #[must_use]
    pub fn typedef_id(&self, name: &str) -> Option<u32> {
        self.named.get(&(Kind::Typedef, name)).copied()
    }

    /// The id of the function `name`.
    #[must_use]
    pub fn function_id(&self, name: &str) -> Option<u32> {
        self.named.get(&(Kind::Func, name)).copied()
    }

    /// What a tracepoint's program gets, from `typedef void (*btf_trace_NAME)(void *, …)`.
    #[must_use]
    pub fn tracepoint_arguments(&self, tracepoint: &str) -> Option<Vec<Argument<'a>>> {
        let typedef = self.typedef_id(&format!("btf_trace_{tracepoint}"))?;
        let pointer = self.bare(typedef).filter(|found| found.kind == Kind::Ptr)?;
        let proto = self.bare(pointer.size_or_type).filter(|found| found.kind == Kind::FuncProto)?;
        let mut arguments = Vec::with_capacity(proto.count as usize);
        // The first is the tracepoint's own data, which programs do not get.
        for raw in proto.extra.chunks_exact(8).skip(1) {
            arguments.push(self.argument(word(raw, 4)?));
        }
        Some(arguments)
    }

    fn argument(&self, id: u32) -> Argument<'a> {
        let Some(found) = self.bare(id) else {
            return Argument::Other;
        };
        match found.kind {
            Kind::Ptr => {
                let target = self.bare(found.size_or_type);
                let name = target.and_then(|target| self.string(target.name));
                Argument::Pointer(name.unwrap_or_default())
            }
            Kind::Int | Kind::Enum | Kind::Enum64 => Argument::Integer(found.size_or_type),
            Kind::Array
            | Kind::Struct
            | Kind::Typedef
            | Kind::Qualifier
            | Kind::Func
            | Kind::FuncProto
            | Kind::Other => Argument::Other,
        }
    }
}

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
