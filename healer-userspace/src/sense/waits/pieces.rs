//! Which pointers lead to what lies behind them: those to the start of the piece of memory that it lies in.

use std::collections::BTreeMap;

use super::memory;

/// How far before something what it lies in may begin: if the allocator says that it reaches so far, and if it says
/// nothing.
pub(super) const AROUND: u64 = 4096;
const INSIDE: u64 = 256;
/// In one look.
const QUESTIONS_MAX: usize = 8 * 1024;

/// Whether a pointer leads to what lies behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    Nowhere,
    /// It is near, and the allocator says nothing, or it may be something else that looks like its words.
    Perhaps,
    /// It is where the piece begins that the other lies in.
    FromStart,
}

/// The pieces of one process, each asked for once.
#[derive(Default)]
pub(super) struct Pieces {
    /// By where they begin: none where the allocator says nothing.
    known: BTreeMap<u64, Option<Piece>>,
    questions: usize,
}

impl Pieces {
    #[cfg(test)]
    pub(super) fn known(pieces: &[(u64, u64)]) -> Self {
        let known = pieces.iter().map(|(start, end)| (*start, Some(Piece { end: *end, is_sure: true })));
        Self { known: known.collect(), questions: 0 }
    }

    /// Whether a pointer to `start` may lead to `address` behind it. Too many questions are not answered.
    pub(super) fn lead(&mut self, pid: u32, start: u64, address: u64) -> Lead {
        self.questions += 1;
        if self.is_too_much() {
            return Lead::Nowhere;
        }
        match *self.known.entry(start).or_insert_with(|| Piece::at(pid, start)) {
            Some(piece) if address < piece.end && piece.is_sure => Lead::FromStart,
            Some(piece) if address < piece.end => Lead::Perhaps,
            None if address - start <= INSIDE => Lead::Perhaps,
            Some(_) | None => Lead::Nowhere,
        }
    }

    /// Whether `address` lies in the piece that begins at `start`, or that cannot be told.
    pub(super) fn may_hold(&self, start: u64, address: u64) -> bool {
        let end = self.known.get(&start).and_then(|piece| piece.map(|piece| piece.end));
        end.is_none_or(|end| (start..end).contains(&address))
    }

    pub(super) fn is_too_much(&self) -> bool {
        QUESTIONS_MAX < self.questions
    }
}

#[derive(Clone, Copy)]
struct Piece {
    end: u64,
    /// Behind it stands what stands behind a piece that is in use.
    is_sure: bool,
}

impl Piece {
    /// Before a piece of its memory glibc keeps the size, a multiple of sixteen, and three flags (malloc/malloc.c). The
    /// same stands before the next one, and `PREV_INUSE` there says that this one is in use.
    fn at(pid: u32, start: u64) -> Option<Self> {
        const PREV_INUSE: u64 = 1;
        const LEAST: u64 = 32;
        const MOST: u64 = 1 << 20;
        if !start.is_multiple_of(16) {
            return None;
        }
        let size = word(pid, start.wrapping_sub(8))? & !7;
        if !size.is_multiple_of(16) || !(LEAST..=MOST).contains(&size) {
            return None;
        }
        let end = start.saturating_add(size - 8);
        let is_next =
            |next: u64| next & PREV_INUSE != 0 && LEAST <= next & !7 && (next & !7).is_multiple_of(16);
        Some(Self { end, is_sure: word(pid, end).is_some_and(is_next) })
    }
}

fn word(pid: u32, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    (memory::read(pid, address, &mut bytes) == bytes.len()).then(|| u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_read_once_and_not_every_question_is_answered() {
        let mut memory = vec![0_u64; 128];
        let first = memory.as_ptr().addr() as u64;
        let start = (first + 16).next_multiple_of(16);
        let other = start + 0x200;
        // Behind the first stands another, behind the other one nothing.
        for (at, size) in [(start, 0x141), (start + 0x140, 0x21), (other, 0x141)] {
            memory[((at - first) / 8) as usize - 1] = size;
        }
        let memory = core::hint::black_box(memory);
        let pid = std::process::id();
        let mut pieces = Pieces::default();
        let mut lead = |start: u64, distance: u64| pieces.lead(pid, start, start + distance);
        assert_eq!((lead(start, 0x130), lead(start, 0x138)), (Lead::FromStart, Lead::Nowhere), "by its size");
        assert_eq!(
            (lead(other, 0x130), lead(other, 0x138)),
            (Lead::Perhaps, Lead::Nowhere),
            "it may be none"
        );
        let by_none = (lead(start + 8, INSIDE), lead(start + 8, INSIDE + 8));
        assert_eq!(by_none, (Lead::Perhaps, Lead::Nowhere));
        assert!((0..QUESTIONS_MAX).any(|_| lead(start, 16) == Lead::Nowhere));
        assert!(pieces.is_too_much());
        assert_eq!(pieces.known.len(), 3, "each was read once");
        drop(memory);
    }
}
