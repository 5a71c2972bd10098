//! Ends of the whole process.

pub(super) fn abort() -> u8 {
    std::process::abort()
}

pub(super) fn one() -> u8 {
    1
}

pub(super) fn zero() -> u8 {
    0
}
