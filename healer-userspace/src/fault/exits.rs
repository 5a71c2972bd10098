//! Ends of the whole process.

use super::{End, Fault};
use crate::engine::class::Class;

pub(super) const ABORT: Fault =
    Fault::failing("abort", Class::Crash, "calls abort(3)", End::Signal(libc::SIGABRT), abort);
pub(super) const EXITS: Fault = Fault::failing(
    "exits",
    Class::Crash,
    "the main process of a supervised command ends with status 1",
    End::Status(1),
    one,
)
.supervised();
pub(super) const EXITS_0: Fault =
    Fault::healthy("exits-0", "healthy: a command that is done", End::Status(0), zero);

fn abort() -> u8 {
    std::process::abort()
}

fn one() -> u8 {
    1
}

fn zero() -> u8 {
    0
}
