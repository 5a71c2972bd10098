//! How commands write to a terminal, a pipe or a file: aligned, quiet, escaped; colour on a terminal only.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::{report::log::wants_colour, text::printable};

/// Writes to stdout. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// Of write(2).
pub fn emit(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told,
    }
}

/// # Errors
/// Of write(2).
pub fn emit_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(emit(&text)?)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Plain,
    Good,
    Held,
    Bad,
    Faint,
    Strong,
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Paint(pub bool);

impl Paint {
    pub fn of_stdout() -> Self {
        Self(wants_colour(io::stdout().is_terminal()))
    }

    pub fn paint(self, mood: Mood, text: &str) -> String {
        let code = match mood {
            Mood::Plain => return text.to_owned(),
            Mood::Good => 32,
            Mood::Held => 33,
            Mood::Bad => 31,
            Mood::Faint => 2,
            Mood::Strong => 1,
        };
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A cell of a table; its text is escaped.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    mood: Mood,
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: printable(text.as_ref()).into_owned(), mood: Mood::Plain }
    }
}

impl Cell {
    pub fn new(mood: Mood, text: &str) -> Self {
        Self { mood, ..Self::from(text) }
    }
}

/// Columns as wide as their widest cell, two blanks between them, nothing behind the last.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
    indent: &'static str,
}

impl Table {
    pub fn with_head(head: &[&str]) -> Self {
        let mut table = Self::default();
        table.row(head.iter().map(|title| Cell::new(Mood::Faint, title)));
        table
    }

    pub fn indented(indent: &'static str) -> Self {
        Self { indent, ..Self::default() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub fn render(&self, paint: Paint) -> String {
        let mut widths = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let mut out = String::new();
        for row in &self.rows {
            out.push_str(self.indent);
            let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
            for (index, cell) in row.iter().enumerate().take(last + 1) {
                out.push_str(&paint.paint(cell.mood, &cell.text));
                if index < last {
                    let pad = widths[index] - cell.text.chars().count() + 2;
                    out.extend(std::iter::repeat_n(' ', pad));
                }
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_nothing_trails() {
        let mut table = Table::with_head(&["NAME", "STATE", "NOTE"]);
        table.row(["web\x1b[2J", "running", ""].map(Cell::from));
        table.row(["dé", "down", "gone"].map(Cell::from));
        assert_eq!(
            table.render(Paint(false)),
            "NAME        STATE    NOTE\nweb\\x1b[2J  running\ndé          down     gone\n"
        );
    }

    #[test]
    fn colour_does_not_count_as_width() {
        let mut table = Table::indented("  ");
        table.row([Cell::new(Mood::Bad, "down"), Cell::from("x")]);
        table.row([Cell::from("running"), Cell::from("y")]);
        assert_eq!(table.render(Paint(true)), "  \x1b[31mdown\x1b[0m     x\n  running  y\n");
    }
}
