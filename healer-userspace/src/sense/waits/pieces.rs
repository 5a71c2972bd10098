//! Which pointers lead to what lies behind them: those to the start of the piece of memory that it lies in.

use std::collections::BTreeMap;

use super::memory;

/// How far before something what it lies in may begin: if the allocator says that it reaches so far, and if it says
/// nothing.
pub(super) const AROUND: u64 = 4096;
const INSIDE: u64 = 256;
/// In one look.
const QUESTIONS_MAX: usize = 8 * 1024;

/// The pieces of one process, each asked for once.
#[derive(Default)]
pub(super) struct Pieces {
    /// By where they begin, where they end: none where the allocator says nothing.
    ends: BTreeMap<u64, Option<u64>>,
    questions: usize,
}

impl Pieces {
    /// Whether a pointer to `start` may lead to `address` behind it. Too many questions are not answered.
    pub(super) fn may_lead(&mut self, pid: u32, start: u64, address: u64) -> bool {
        self.questions += 1;
        if self.is_too_much() {
            return false;
        }
        let end = *self.ends.entry(start).or_insert_with(|| end_of_piece(pid, start));
        end.map_or(address - start <= INSIDE, |end| address < end)
    }

    pub(super) fn is_too_much(&self) -> bool {
        QUESTIONS_MAX < self.questions
    }
}

/// Before a piece of its memory glibc keeps the size, a multiple of sixteen, and three flags (malloc/malloc.c).
fn end_of_piece(pid: u32, start: u64) -> Option<u64> {
    const LEAST: u64 = 32;
    const MOST: u64 = 1 << 20;
    if !start.is_multiple_of(16) {
        return None;
    }
    let mut size = [0; 8];
    let is_read = memory::read(pid, start.wrapping_sub(8), &mut size) == size.len();
    let size = u64::from_ne_bytes(size) & !7;
    let is_size = is_read && size.is_multiple_of(16) && (LEAST..=MOST).contains(&size);
    is_size.then(|| start.saturating_add(size - 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_read_once_and_not_every_question_is_answered() {
        let mut memory = vec![0_u64; 64];
        let first = memory.as_ptr().addr() as u64;
        let start = (first + 16).next_multiple_of(16);
        memory[((start - first) / 8) as usize - 1] = 0x141;
        let memory = core::hint::black_box(memory);
        let pid = std::process::id();
        let mut pieces = Pieces::default();
        let mut leads = |start: u64, distance: u64| pieces.may_lead(pid, start, start + distance);
        assert!(leads(start, 0x130) && !leads(start, 0x138), "by its size");
        assert!(leads(start + 8, INSIDE) && !leads(start + 8, INSIDE + 8), "by none");
        assert!((0..QUESTIONS_MAX).any(|_| !leads(start, 16)));
        assert!(pieces.is_too_much());
        assert_eq!(pieces.ends.len(), 2, "each was read once");
        drop(memory);
    }
}
