//! Names of functions in the memory of another process. Loaded for one capture and dropped with it.

use std::path::Path;

use blazesym::{
    Pid,
    symbolize::{
        Input, Symbolizer,
        source::{self, Source},
    },
};

use super::{is_readable, maps::Maps};
use crate::text::printable;

const NAME_MAX: usize = 120;

pub(super) struct Symbols {
    pid: u32,
    symbolizer: Symbolizer,
}

impl Symbols {
    pub(super) fn new(pid: u32) -> Self {
        let symbolizer = Symbolizer::builder().enable_code_info(false).enable_inlined_fns(false).build();
        Self { pid, symbolizer }
    }

    /// `take_two+0x4e (locks)`, or only the place in the file.
    pub(super) fn name(&mut self, address: u64, maps: &Maps) -> String {
        let Some(code) = maps.find(address) else {
            return format!("{address:#x}");
        };
        let place = code.place(address);
        // A map of symbols in /tmp is anybody's word: not read.
        let mut process = source::Process::new(Pid::from(self.pid));
        (process.perf_map, process.debug_syms, process.vdso) = (false, false, false);
        if !is_readable(Path::new(&code.link(self.pid))) {
            return printable(&place).to_string();
        }
        let found = self.symbolizer.symbolize_single(&Source::Process(process), Input::AbsAddr(address));
        let name = found.ok().and_then(|found| {
            let symbol = found.as_sym()?;
            let name: String = symbol.name.chars().take(NAME_MAX).collect();
            Some(format!("{name}+{:#x} ({})", symbol.offset, place))
        });
        printable(&name.unwrap_or(place)).to_string()
    }
}
