//! Names of functions in the memory of another process. The files are the patient's, and may be anything: one that is
//! cut short while it is read ends whoever has mapped it (SIGBUS, mmap(2)). So a child reads them, not the agent.

mod names;
#[cfg_attr(
    test,
    expect(dead_code, reason = "the program of unit tests has no subcommands: they read in place")
)]
mod reader;

use super::maps::Maps;
use crate::text::printable;
pub(crate) use reader::serve;

#[cfg(test)]
use in_place::Reader;
#[cfg(not(test))]
use reader::Reader;

pub(super) struct Symbols {
    pid: u32,
    reader: Option<Reader>,
}

impl Symbols {
    pub(super) fn new(pid: u32) -> Self {
        Self { pid, reader: Reader::start() }
    }

    /// `take_two+0x4e (locks)`, or only the place in the file.
    pub(super) fn name(&mut self, address: u64, maps: &Maps) -> String {
        let Some(code) = maps.find(address) else {
            return format!("{address:#x}");
        };
        let place = code.place(address);
        let name =
            code.file(self.pid).and_then(|file| self.reader.as_mut()?.ask(&file, code.offset_of(address)));
        let words = name.map_or_else(|| place.clone(), |name| format!("{name} ({place})"));
        printable(&words).to_string()
    }
}

#[cfg(test)]
mod in_place {
    use std::path::Path;

    use super::names::Names;

    pub(super) struct Reader(Names);

    impl Reader {
        pub(super) fn start() -> Option<Self> {
            Some(Self(Names::new()))
        }

        pub(super) fn ask(&mut self, file: &Path, offset: u64) -> Option<String> {
            self.0.find(file, offset)
        }
    }
}
