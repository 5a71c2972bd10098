//! What the loader fills in: see `healer_common::tuning`.

use healer_common::{kernel_formats, kernel_offsets, kernel_settings, tuning::ABSENT};

macro_rules! offset_statics {
    ($($name:ident: $of:literal, $path:literal, $need:ident by $programs:literal;)*) => {
        $(#[unsafe(no_mangle)] pub(crate) static $name: u32 = ABSENT;)*
    };
}
kernel_offsets!(offset_statics);

macro_rules! format_statics {
    ($($name:ident: $group:literal, $event:literal, $field:literal, $shape:tt, $need:ident by $program:literal;)*) => {
        $(#[unsafe(no_mangle)] pub(crate) static $name: u32 = ABSENT;)*
    };
}
kernel_formats!(format_statics);

macro_rules! setting_statics {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])* #[unsafe(no_mangle)] pub(crate) static $name: $type = 0;)*
    };
}
kernel_settings!(setting_statics);

/// Reads a value the loader may have changed: to the compiler it would be the constant above.
#[inline(always)]
pub(crate) fn read<T: Copy>(value: &'static T) -> T {
    // SAFETY: a reference is valid and aligned.
    unsafe { core::ptr::read_volatile(value) }
}

macro_rules! tuned {
    ($name:ident) => {
        $crate::tuning::read(&$crate::tuning::$name)
    };
}
pub(crate) use tuned;

/// Whether the running kernel has all of these members.
macro_rules! present {
    ($($name:ident),+) => {
        $($crate::tuning::tuned!($name) != healer_common::tuning::ABSENT)&&+
    };
}
pub(crate) use present;
