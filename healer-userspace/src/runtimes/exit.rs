//! An end as container runtimes write it down.

use crate::signal::{Exit, SeenBy};

/// 128 + n: signal n ended it.
pub(super) fn exit_of(code: i32) -> Exit {
    let signal = (129..=192).contains(&code).then_some(code - 128);
    let code = if signal.is_some() { 0 } else { code };
    Exit { code, signal, seen_by: SeenBy::Poll, ..Exit::default() }
}
