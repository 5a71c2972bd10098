//! Names of functions, from the symbol tables of ELF files.

use std::{
    fmt::{self, Write as _},
    path::Path,
};

use blazesym::symbolize::{
    Input, Symbolizer,
    source::{self, Source},
};
use cpp_demangle::DemangleOptions;

/// In characters of the readable form.
const NAME_MAX: usize = 120;
/// Of the mangled form: nobody's compiler writes longer ones, and to take one apart costs more than its length.
const MANGLED_MAX: usize = 4096;

/// Keeps what it has read of a file.
pub(super) struct Names(Symbolizer);

impl Names {
    pub(super) fn new() -> Self {
        let symbolizer = Symbolizer::builder()
            .enable_code_info(false)
            .enable_inlined_fns(false)
            .enable_demangling(false)
            .build();
        Self(symbolizer)
    }

    /// `take_two+0x4e`
    pub(super) fn find(&self, file: &Path, offset: u64) -> Option<String> {
        let elf = source::Elf { debug_syms: false, ..source::Elf::new(file) };
        let found = self.0.symbolize_single(&Source::Elf(elf), Input::FileOffset(offset)).ok()?;
        let symbol = found.as_sym()?;
        Some(format!("{}+{:#x}", readable(&symbol.name), symbol.offset))
    }
}

/// As its author wrote it. A function of C may be called `f`, which is `float` to a reader of C++ that takes any name.
fn readable(name: &str) -> String {
    let whole = Some(name).filter(|name| name.len() <= MANGLED_MAX);
    let rust = whole.and_then(|name| rustc_demangle::try_demangle(name).ok());
    let mut out = Short(String::new());
    let is_known = if let Some(rust) = rust {
        // Its end is the end of what is wanted of it.
        write!(out, "{rust:#}").ok();
        true
    } else {
        let cpp =
            whole.filter(|name| name.starts_with("_Z")).and_then(|name| cpp_demangle::Symbol::new(name).ok());
        cpp.is_some_and(|symbol| {
            let ended = symbol.structured_demangle(&mut out, &DemangleOptions::new());
            ended.is_ok() || out.is_full()
        })
    };
    if is_known { out.0 } else { name.chars().take(NAME_MAX).collect() }
}

/// Takes so much and no more: a name of a hundred letters may stand for one of gigabytes.
struct Short(String);

impl Short {
    fn is_full(&self) -> bool {
        NAME_MAX <= self.0.chars().count()
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = NAME_MAX.saturating_sub(self.0.chars().count());
        self.0.extend(text.chars().take(left));
        if self.is_full() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_their_authors_wrote_them() {
        assert_eq!(readable("f"), "f");
        assert_eq!(readable("main"), "main");
        assert_eq!(readable("_ZN3Foo3barEv"), "Foo::bar()");
        assert_eq!(readable("_ZN4core3ptr4read17h0123456789abcdefE"), "core::ptr::read");
        assert_eq!(readable("_RNvC6_123foo3bar"), "123foo::bar");
    }

    /// Each of its types is a pair of the one before (`S3_` stands for the third, and so on): written out, 2^40 letters.
    #[test]
    fn a_short_name_that_stands_for_a_long_one_is_cut() {
        let digit = |value: u32| char::from_digit(value, 36).expect("a digit").to_ascii_uppercase();
        let number = |value: u32| match value {
            0..36 => format!("{}", digit(value)),
            _ => format!("{}{}", digit(value / 36), digit(value % 36)),
        };
        let pair = |of: u32| format!("S0_IS{0}_S{0}_E", number(of));
        let pairs: String = (2..42).map(pair).collect();
        let name = readable(&format!("_Z1fI1pI1aS1_E{pairs}Evv"));
        assert!(name.starts_with("void f<p<a, a>, p<p<a, a>, p<a, a>"), "{name}");
        assert_eq!(name.len(), NAME_MAX);
        assert_eq!(readable(&"_Z1f".repeat(10_000)).len(), NAME_MAX);
    }
}
