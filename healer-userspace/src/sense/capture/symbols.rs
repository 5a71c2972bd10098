//! Names of functions in the memory of another process. Loaded for one capture and dropped with it.

use blazesym::symbolize::{
    Input, Symbolizer,
    source::{self, Source},
};

use super::maps::Maps;
use crate::text::printable;

const NAME_MAX: usize = 120;

pub(super) struct Symbols {
    pid: u32,
    symbolizer: Symbolizer,
}

impl Symbols {
    pub(super) fn new(pid: u32) -> Self {
        let symbolizer = Symbolizer::builder()
            .enable_code_info(false)
            .enable_inlined_fns(false)
            .enable_demangling(false)
            .build();
        Self { pid, symbolizer }
    }

    /// `take_two+0x4e (locks)`, or only the place in the file.
    pub(super) fn name(&mut self, address: u64, maps: &Maps) -> String {
        let Some(code) = maps.find(address) else {
            return format!("{address:#x}");
        };
        let place = code.place(address);
        let Some(file) = code.file(self.pid) else {
            return printable(&place).to_string();
        };
        let elf = source::Elf { debug_syms: false, ..source::Elf::new(file) };
        let offset = Input::FileOffset(code.offset_of(address));
        let found = self.symbolizer.symbolize_single(&Source::Elf(elf), offset);
        let name = found.ok().and_then(|found| {
            let symbol = found.as_sym()?;
            let name: String = readable(&symbol.name).chars().take(NAME_MAX).collect();
            Some(format!("{name}+{:#x} ({})", symbol.offset, place))
        });
        printable(&name.unwrap_or(place)).to_string()
    }
}

/// As its author wrote it. A function of C may be called `f`, which is `float` to a reader of C++ that takes any name.
fn readable(name: &str) -> String {
    let rust = rustc_demangle::try_demangle(name).map(|name| format!("{name:#}"));
    let cpp = || {
        let symbol = cpp_demangle::Symbol::new(name).ok().filter(|_| name.starts_with("_Z"));
        symbol.and_then(|symbol| symbol.demangle().ok())
    };
    rust.ok().or_else(cpp).unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn names_are_as_their_authors_wrote_them() {
        assert_eq!(readable("f"), "f");
        assert_eq!(readable("main"), "main");
        assert_eq!(readable("_ZN3Foo3barEv"), "Foo::bar()");
        assert_eq!(readable("_ZN4core3ptr4read17h0123456789abcdefE"), "core::ptr::read");
        assert_eq!(readable("_RNvC6_123foo3bar"), "123foo::bar");
    }
}
