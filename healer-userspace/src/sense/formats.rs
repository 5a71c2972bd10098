//! Where this kernel's classic tracepoints keep the fields that our programs read.

use std::path::Path;

use healer_common::{kernel_formats, tuning::ABSENT};

use super::format::{self, Format, Shape, Storage, Wanted};

/// A field that a program reads.
pub(crate) struct Slot {
    pub(crate) name: &'static str,
    group: &'static str,
    event: &'static str,
    wanted: Wanted,
    storage: Storage,
    is_required: bool,
    program: &'static str,
}

macro_rules! shape {
    (text) => {
        (Shape::Text, Storage::DataLoc)
    };
    (array) => {
        (Shape::Text, Storage::Array)
    };
    ($bytes:literal) => {
        (Shape::Integer { bytes: $bytes }, Storage::Scalar)
    };
}

macro_rules! slot_table {
    ($($name:ident: $group:literal, $event:literal, $field:literal, $shape:tt, $need:ident by $program:literal;)*) => {
        /// Every field that some program reads; the list is in `healer_common::tuning`.
        pub(crate) const SLOTS: &[Slot] = &[$(Slot {
            name: stringify!($name),
            group: $group,
            event: $event,
            wanted: Wanted { field: $field, shape: shape!($shape).0 },
            storage: shape!($shape).1,
            is_required: matches!(stringify!($need).as_bytes(), b"required"),
            program: $program,
        },)*];
    };
}
kernel_formats!(slot_table);

/// One value per row of [`SLOTS`], or why there is none.
pub(crate) struct Formats {
    places: Vec<Result<u32, String>>,
}

/// Reads the events' `format` files below `tracefs`: a few small files.
pub(crate) fn read(tracefs: &Path) -> Formats {
    resolve(|group, event| format::read(tracefs, group, event).map_err(|error| error.to_string()))
}

fn resolve(read: impl Fn(&str, &str) -> Result<Format, String>) -> Formats {
    let mut last: Option<(&str, Result<Format, String>)> = None;
    let mut places = Vec::with_capacity(SLOTS.len());
    for slot in SLOTS {
        if last.as_ref().is_none_or(|(event, _)| *event != slot.event) {
            last = Some((slot.event, read(slot.group, slot.event)));
        }
        let place = match &last {
            Some((_, Ok(format))) => place(slot, format),
            Some((_, Err(why))) => Err(why.clone()),
            None => Err(String::new()),
        };
        places.push(place);
    }
    Formats { places }
}

fn place(slot: &Slot, format: &Format) -> Result<u32, String> {
    let place = format.place(slot.wanted).map_err(|unfit| unfit.to_string())?;
    if place.storage == slot.storage {
        return Ok(u32::from(place.offset));
    }
    Err(format!("the field {} is kept in a way that the program does not read", slot.wanted.field))
}

impl Formats {
    /// What the programs are told: one per row of [`SLOTS`].
    pub(crate) fn offsets(&self) -> Vec<u32> {
        self.places.iter().map(|place| place.as_ref().copied().unwrap_or(ABSENT)).collect()
    }

    /// Optional fields that `program` will do without.
    ///
    /// # Errors
    /// Why the first required field, or the whole event, cannot be read.
    pub(crate) fn missing(&self, program: &str) -> Result<Vec<String>, String> {
        let mut missing = Vec::new();
        for (slot, place) in SLOTS.iter().zip(&self.places) {
            if slot.program != program {
                continue;
            }
            match place {
                Err(why) if slot.is_required => return Err(why.clone()),
                Err(_) => missing.push(format!("{}.{}", slot.event, slot.wanted.field)),
                Ok(_) => {}
            }
        }
        Ok(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RICH: &str = "\
name: mark_victim
\tfield:int pid;\toffset:8;\tsize:4;\tsigned:1;
\tfield:__data_loc char[] comm;\toffset:12;\tsize:4;\tsigned:0;
";

    #[test]
    fn a_field_of_another_shape_is_no_field() {
        let format = Format::parse(RICH).unwrap();
        let slot = |name: &str| SLOTS.iter().find(|slot| slot.name == name).unwrap();
        assert_eq!(place(slot("VICTIM_PID"), &format), Ok(8));
        assert_eq!(place(slot("VICTIM_COMM"), &format), Ok(12));
        assert!(place(slot("VICTIM_UID"), &format).unwrap_err().contains("no field uid"));
        let array = Format::parse(&RICH.replace("__data_loc char[] comm", "char comm[4]")).unwrap();
        assert!(place(slot("VICTIM_COMM"), &array).is_err());
    }

    const DUMPS: [&str; 4] = [
        include_str!("../../../tests/fixtures/tracefs-formats/6.1-cloud-amd64.txt"),
        include_str!("../../../tests/fixtures/tracefs-formats/6.1-rt-amd64.txt"),
        include_str!("../../../tests/fixtures/tracefs-formats/6.12-cloud-amd64.txt"),
        include_str!("../../../tests/fixtures/tracefs-formats/6.18.txt"),
    ];

    fn of_dump(dump: &str) -> Formats {
        resolve(|group, event| {
            let mut lines = dump.lines().skip_while(|line| *line != format!("{group}/{event}"));
            lines.next().ok_or("not dumped")?;
            let fields = lines.take_while(|line| line.starts_with(' ')).collect::<Vec<_>>().join("\n");
            Format::parse(&fields).map_err(|error| error.to_string())
        })
    }

    #[test]
    fn every_field_that_a_program_reads_is_found_on_every_kernel_or_listed() {
        let lacks = DUMPS.map(|dump| {
            let formats = of_dump(dump);
            let lost = SLOTS.iter().zip(&formats.places).filter(|(_, place)| place.is_err());
            // Reclaim's events were not dumped; the guests read theirs.
            lost.filter(|(slot, _)| slot.group != "vmscan").map(|(slot, _)| slot.name).collect::<Vec<_>>()
        });
        let of_old = ["EXIT_GROUP_DEAD", "RESENT_ERROR"];
        assert_eq!(lacks, [&of_old[..], &of_old, &of_old, &[]]);
    }

    #[test]
    fn without_tracefs_every_program_that_needs_a_field_is_refused_in_words() {
        let formats = read(Path::new("/nonexistent"));
        let why = formats.missing("signal_sent_tp").unwrap_err();
        assert!(why.contains("signal/signal_generate") && why.contains("tracefs"), "{why}");
        assert_eq!(formats.missing("process_exit_tp").unwrap(), ["sched_process_exit.group_dead"]);
        assert!(formats.offsets().iter().all(|offset| *offset == ABSENT));
    }
}
