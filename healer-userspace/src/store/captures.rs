//! Evidence of incidents, as files of the state directory: `capture-i42.txt`, and `capture-i42.svg` where there is a
//! graph. The newest are kept.

use std::{
    collections::BTreeSet,
    fs, io,
    io::{Read as _, Write as _},
};

use super::dir::{Access, StateDir};
use crate::{engine::command::IncidentId, sense::capture::Capture};

/// Incidents whose evidence is kept.
const KEPT: usize = 50;
const READ_MAX: u64 = 1 << 20;
/// Of one incident: what does not fit is cut off.
const TEXT_MAX: usize = 256 * 1024;

fn name(incident: &str, kind: &str) -> String {
    format!("capture-{incident}.{kind}")
}

/// Adds to what is kept of the incident already; each file is whole or not there.
///
/// # Errors
/// The directory cannot be written.
pub fn keep(dir: &StateDir, incident: IncidentId, capture: &Capture) -> io::Result<()> {
    let incident = incident.to_string();
    let before = text(dir, &incident)?.map(|before| before + "\nand later:\n").unwrap_or_default();
    let text = cut(before + &capture.text);
    let files = [("txt", Some(&text)), ("svg", capture.svg.as_ref())];
    for (kind, content) in files.into_iter().filter_map(|(kind, content)| Some((kind, content?))) {
        let new = name(&incident, &format!("{kind}.new"));
        dir.file(&new, Access::Replace)?.write_all(content.as_bytes())?;
        dir.rename(&new, &name(&incident, kind))?;
    }
    forget_old(dir)
}

fn cut(mut text: String) -> String {
    let end = text.floor_char_boundary(TEXT_MAX);
    text.truncate(end);
    text
}

fn forget_old(dir: &StateDir) -> io::Result<()> {
    let names: Vec<String> = fs::read_dir(dir.path())?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let number = |name: &str| name.strip_prefix("capture-i")?.split_once('.')?.0.parse::<u64>().ok();
    let numbers: BTreeSet<u64> = names.iter().filter_map(|name| number(name)).collect();
    let Some(oldest) = numbers.iter().rev().nth(KEPT - 1) else {
        return Ok(());
    };
    for old in names.iter().filter(|name| number(name).is_some_and(|number| number < *oldest)) {
        dir.remove(old)?;
    }
    Ok(())
}

/// The text of an incident such as `i42`; `None` if there is none.
///
/// # Errors
/// The file is there and cannot be read.
pub fn text(dir: &StateDir, incident: &str) -> io::Result<Option<String>> {
    read(dir, incident, "txt")
}

/// The text (`txt`) or the picture (`svg`) of an incident.
///
/// # Errors
/// As `text`.
pub fn read(dir: &StateDir, incident: &str, kind: &str) -> io::Result<Option<String>> {
    if !incident.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(None);
    }
    let Some(file) = dir.existing(&name(incident, kind))? else {
        return Ok(None);
    };
    let mut text = String::new();
    file.take(READ_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;

    #[test]
    fn a_later_look_is_added_and_the_whole_is_bounded() {
        let scratch = Scratch::new("captures-later");
        let dir = StateDir::create(&scratch.path().join("state")).unwrap();
        let look = |text: &str, svg: Option<&str>| {
            let capture = Capture { text: text.to_owned(), svg: svg.map(str::to_owned) };
            keep(&dir, IncidentId(7), &capture).unwrap();
        };
        look("first\n", Some("<svg/>"));
        look("second\n", None);
        assert_eq!(text(&dir, "i7").unwrap().as_deref(), Some("first\n\nand later:\nsecond\n"));
        assert_eq!(read(&dir, "i7", "svg").unwrap().as_deref(), Some("<svg/>"));
        look(&"ö".repeat(TEXT_MAX), None);
        assert!(text(&dir, "i7").unwrap().unwrap().len() <= TEXT_MAX);
    }

    #[test]
    fn the_newest_are_kept() {
        let scratch = Scratch::new("captures");
        let dir = StateDir::create(&scratch.path().join("state")).unwrap();
        for number in 1..=KEPT as u64 + 3 {
            let capture = Capture { text: format!("of {number}"), svg: Some("<svg/>".into()) };
            keep(&dir, IncidentId(number), &capture).unwrap();
        }
        assert_eq!(text(&dir, "i3").unwrap(), None);
        assert_eq!(text(&dir, "i4").unwrap().as_deref(), Some("of 4"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2 * KEPT);
        assert_eq!(text(&dir, "../i4").unwrap(), None);
    }
}
