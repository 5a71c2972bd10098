//! What pieces of evidence make together.

use super::{super::kind::Kind, ENOUGH, Piece};
use crate::engine::time::BootTime;

/// Less is silence.
pub(super) const A_WORD: u32 = 2;

/// When the evidence became enough. Broken connections alone are never: a server that restarts breaks many.
pub(super) fn enough_at<'a>(pieces: impl Iterator<Item = &'a Piece>) -> Option<BootTime> {
    const RESETS_COUNT: u32 = 2;
    let (mut score, mut resets) = (0, 0);
    for piece in pieces {
        if piece.is_reset && piece.weight == 1 {
            resets += 1;
        }
        score += if piece.is_reset && RESETS_COUNT < resets { 0 } else { piece.weight };
        if ENOUGH <= score {
            return Some(piece.at);
        }
    }
    None
}

/// What most of it says. Words count more than silence, which is what is left of words that are sent seldom:
/// ICMP errors are rate-limited (net/ipv4/icmp.c).
pub(super) fn kind_of<'a>(pieces: impl Iterator<Item = &'a Piece>) -> Kind {
    let (mut refused, mut unreachable) = (0, 0);
    for piece in pieces {
        match piece.kind {
            Kind::Refuses => refused += piece.weight,
            Kind::Unreachable => unreachable += piece.weight,
            Kind::NoAnswer | Kind::Frozen | Kind::Dns | Kind::Stale => {}
        }
    }
    match refused.max(unreachable) {
        0..A_WORD => Kind::NoAnswer,
        most if most == unreachable => Kind::Unreachable,
        _ => Kind::Refuses,
    }
}
