//! Words of the language that nothing answers to yet: refused with "not supported yet", never ignored.
//! Whoever builds one takes it out of here and into its shape.

/// Keys, by the shape that will have them.
const KEYS: &[(&str, &[&str])] =
    &[("Metadata", &["namespace", "labels", "annotations"]), ("Sensors", &["sockets", "tasks"])];

/// Words of closed lists, by the list's type.
const WORDS: &[(&str, &[&str])] = &[];

pub(super) fn keys(shape: &str) -> &'static [&'static str] {
    of(KEYS, shape)
}

pub(super) fn words(list: &str) -> &'static [&'static str] {
    of(WORDS, list)
}

fn of(table: &[(&str, &'static [&'static str])], name: &str) -> &'static [&'static str] {
    let found = table.iter().find(|(shape, _)| *shape == name);
    found.map(|(_, words)| *words).unwrap_or_default()
}
