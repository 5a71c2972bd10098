//! `healer audit verify`: does the record of what healer did still say what healer wrote?

use std::{
    fs::File,
    io::{self, BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};

use super::BAD_INPUT;
use crate::{
    report::audit::{
        head::Head,
        verify::{self, Checked, Outcome},
    },
    store::{StoreError, dir::StateDir, journal},
};

/// The record of what healer concluded, meant and did
#[derive(Args)]
pub struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the hash chain: any change, removal or cut is found
    ///
    /// Without FILE all files of the state directory are checked, against the head kept in audit.head and, while no
    /// agent holds it, in the journal. Exit status: 0 whole, 1 broken, 2 nothing to check.
    Verify {
        /// One file by itself: its own chain, no head
        file: Option<PathBuf>,
    },
}

/// # Errors
/// Standard output is gone.
pub fn run(args: &Audit, state_dir: &Path) -> anyhow::Result<ExitCode> {
    let Command::Verify { file } = &args.command;
    let (what, checked) = match file {
        Some(file) => (file.as_path(), check_file(file)),
        None => (state_dir, check_directory(state_dir)),
    };
    let mut out = io::stdout().lock();
    match checked {
        Ok(checked) => print(&mut out, what, &checked),
        Err(why) => {
            writeln!(io::stderr(), "healer: check the audit in {}: {why}", what.display())?;
            Ok(ExitCode::from(BAD_INPUT))
        }
    }
}

fn check_file(path: &Path) -> Result<Checked, String> {
    let name = path.display().to_string();
    File::open(path)
        .and_then(|file| verify::single(&name, BufReader::new(file)))
        .map_err(|error| error.to_string())
}

fn check_directory(path: &Path) -> Result<Checked, String> {
    let dir = StateDir::open(path).map_err(|error| match error {
        StoreError::Io { source, .. } => source.to_string(),
        other @ (StoreError::Directory { .. } | StoreError::Held { .. } | StoreError::Journal { .. }) => {
            other.to_string()
        }
    })?;
    let journal = journal::peek(&dir);
    let head: Option<&Head> = match &journal {
        Ok(meta) => meta.as_ref().and_then(|meta| meta.audit_head.as_ref()),
        Err(_) => None,
    };
    let mut checked = verify::directory(&dir, head).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return "there is no audit.jsonl; name another --state-dir".to_owned();
        }
        error.to_string()
    })?;
    if let Err(why) = journal {
        let remark = format!("the journal's copy of the head was not compared: {why}");
        checked.remarks.push(remark);
    }
    Ok(checked)
}

fn print(out: &mut impl io::Write, what: &Path, checked: &Checked) -> anyhow::Result<ExitCode> {
    let code = match &checked.outcome {
        Outcome::Whole => {
            writeln!(
                out,
                "whole: {} records ({} to {}) in {} of {}, head {}",
                checked.records,
                checked.first,
                checked.last,
                files(checked.files),
                what.display(),
                short(&checked.last_hash),
            )?;
            ExitCode::SUCCESS
        }
        Outcome::Broken(place) => {
            let line = match place.line {
                0 => String::new(),
                line => format!(", line {line}"),
            };
            writeln!(out, "broken: {}{line}: {}", place.file, place.why)?;
            writeln!(out, "  {} records before it are whole", checked.records)?;
            ExitCode::FAILURE
        }
    };
    for remark in &checked.remarks {
        writeln!(out, "  {remark}")?;
    }
    if checked.head.is_none() {
        writeln!(out, "  no head to compare with: a cut tail would not be seen")?;
    }
    Ok(code)
}

fn files(count: usize) -> String {
    match count {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    }
}

fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}
