//! Where a classic tracepoint's record keeps its fields, from its tracefs `format` file.
//!
//! Offsets differ between kernels of one version: PREEMPT_RT adds a common field that shifts all
//! others, and strings move in and out of the record. So they are looked up by name, never known.

use std::{fs, io, path::Path};

/// An event's record as its `format` file describes it (kernel: Documentation/trace/events.rst).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    fields: Vec<Field>,
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    /// The declared C type, without the name and the array's length.
    pub c_type: String,
    pub place: Place,
}

/// Where a field lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the record, the common fields included.
    pub offset: u16,
    /// Bytes in the record; 4 for the word of a string that lies elsewhere.
    pub size: u16,
    /// The kernel's word; of a `char` array it says no more than whether `char` is signed.
    pub is_signed: bool,
    pub storage: Storage,
}

/// How the bytes at a [`Place`] are to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// One value.
    Scalar,
    /// Elements side by side.
    Array,
    /// A word; the bytes lie at its low 16 bits, counted from the start of the record, and their
    /// number is in its high 16 bits (`__data_loc`).
    DataLoc,
    /// The same, counted from the end of the word (`__rel_loc`).
    RelLoc,
}

/// A field that a program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub field: &'static str,
    pub shape: Shape,
}

/// What a program can do with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It loads this many bytes.
    Integer { bytes: u16 },
    /// It copies bytes: from the record itself, or from where a word of it says.
    Text,
}

/// Why there is no [`Place`] for a [`Wanted`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("the event has no field {0}")]
    Missing(&'static str),
    #[error("the field {field} is `{c_type}` of {size} bytes, {wanted}")]
    Shape { field: &'static str, c_type: String, size: u16, wanted: &'static str },
}

/// A text that is no `format` file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("line {line} names a field and cannot be understood")]
    Line { line: usize },
    #[error("no field is named")]
    Empty,
}

/// Why an event's `format` file gave no [`Format`].
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("this kernel has no event {group}/{event}, or tracefs is not mounted")]
    NoEvent { group: String, event: String },
    #[error("cannot read the format of {group}/{event}: {error}")]
    Io { group: String, event: String, error: io::Error },
    #[error("cannot understand the format of {group}/{event}: {error}")]
    Format { group: String, event: String, error: FormatError },
}

/// Reads `TRACEFS/events/GROUP/EVENT/format`.
///
/// # Errors
/// [`ReadError`], in words.
pub fn read(tracefs: &Path, group: &str, event: &str) -> Result<Format, ReadError> {
    let path = tracefs.join("events").join(group).join(event).join("format");
    let (group, event) = (group.to_owned(), event.to_owned());
    match fs::read_to_string(path) {
        Ok(text) => Format::parse(&text).map_err(|error| ReadError::Format { group, event, error }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ReadError::NoEvent { group, event }),
        Err(error) => Err(ReadError::Io { group, event, error }),
    }
}

impl Format {
    /// The fields of a `format` file, the common ones included; it never panics.
    ///
    /// # Errors
    /// A `field:` line of another form, or none at all.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut fields = Vec::new();
        for (at, line) in text.lines().enumerate() {
            // The print format that follows is code, and may say anything.
            if line.starts_with("print fmt:") {
                break;
            }
            let Some(declaration) = line.trim_start().strip_prefix("field:") else {
                continue;
            };
            fields.push(field(declaration).ok_or(FormatError::Line { line: at + 1 })?);
        }
        if fields.is_empty() { Err(FormatError::Empty) } else { Ok(Self { fields }) }
    }

    /// All fields, in the file's order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field of this name; of two, the event's own, which stands after the common one.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().rfind(|field| field.name == name)
    }

    /// Where a program finds what it wants.
    ///
    /// # Errors
    /// [`Unfit`]: this kernel has no such field, or one that the program cannot read.
    pub fn place(&self, wanted: Wanted) -> Result<Place, Unfit> {
        let field = self.field(wanted.field).ok_or(Unfit::Missing(wanted.field))?;
        let unfit = |why| {
            let (c_type, size) = (field.c_type.clone(), field.place.size);
            Unfit::Shape { field: wanted.field, c_type, size, wanted: why }
        };
        match (wanted.shape, field.place.storage) {
            (Shape::Integer { bytes }, Storage::Scalar) if bytes == field.place.size => Ok(field.place),
            (Shape::Integer { .. }, Storage::Scalar) => Err(unfit("the program loads another number")),
            (Shape::Integer { .. }, Storage::Array | Storage::DataLoc | Storage::RelLoc) => {
                Err(unfit("the program wants one number"))
            }
            (Shape::Text, Storage::Scalar) => Err(unfit("the program wants bytes")),
            (Shape::Text, Storage::Array | Storage::DataLoc | Storage::RelLoc) => Ok(field.place),
        }
    }

    /// [`Format::place`] for each of `wanted`, in its order.
    #[must_use]
    pub fn resolve(&self, wanted: &[Wanted]) -> Vec<Result<Place, Unfit>> {
        wanted.iter().map(|wanted| self.place(*wanted)).collect()
    }
}

impl Place {
    /// The bytes of the field in a record, through its word where it has one; `None` if the
    /// record is too short for what it says of itself.
    #[must_use]
    pub fn bytes<'r>(&self, record: &'r [u8]) -> Option<&'r [u8]> {
        let start = usize::from(self.offset);
        let end = start + usize::from(self.size);
        let own = record.get(start..end)?;
        let from = match self.storage {
            Storage::Scalar | Storage::Array => return Some(own),
            Storage::DataLoc => 0,
            Storage::RelLoc => end,
        };
        let word: [u8; 4] = own.try_into().ok()?;
        let (low, high) = word.split_at(2);
        let half = |bytes: &[u8]| bytes.try_into().ok().map(u16::from_ne_bytes).map(usize::from);
        // Both kernels that healer is built for keep the low half first.
        let (at, length) = (from + half(low)?, half(high)?);
        record.get(at..at + length)
    }
}

/// `TYPE NAME[LENGTH];` then, after tabs, `offset:N;`, `size:N;` and `signed:N;`.
fn field(declaration: &str) -> Option<Field> {
    let mut parts = declaration.split(';').map(str::trim);
    let declared = parts.next()?;
    let offset = parts.next()?.strip_prefix("offset:")?.parse().ok()?;
    let size = parts.next()?.strip_prefix("size:")?.parse().ok()?;
    // Kernels before 2.6.34 did not say it.
    let is_signed = parts.next().is_some_and(|part| part == "signed:1");
    let (c_type, name, is_array) = split_declaration(declared)?;
    let storage = match c_type.split_whitespace().next()? {
        "__data_loc" => Storage::DataLoc,
        "__rel_loc" => Storage::RelLoc,
        _ if is_array => Storage::Array,
        _ => Storage::Scalar,
    };
    if matches!(storage, Storage::DataLoc | Storage::RelLoc) && size != 4 {
        return None;
    }
    let place = Place { offset, size, is_signed, storage };
    Some(Field { name: name.to_owned(), c_type: c_type.to_owned(), place })
}

/// Type, name, and whether it is an array, of `char comm[16]`, `const void * p`, `__data_loc char[] s`.
fn split_declaration(declared: &str) -> Option<(&str, &str, bool)> {
    let (head, is_array) = match declared.strip_suffix(']') {
        Some(head) => (head.rsplit_once('[')?.0.trim_end(), true),
        None => (declared, false),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let start = head.rfind(|c| !is_name(c)).map_or(0, |at| at + 1);
    // The character before is one byte only if it is ASCII: a type holds no other.
    let (c_type, name) = (head.get(..start)?.trim_end(), head.get(start..)?);
    (!name.is_empty() && !c_type.is_empty()).then_some((c_type, name, is_array))
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
