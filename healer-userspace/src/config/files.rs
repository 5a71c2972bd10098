//! Which files a path stands for.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// Larger files are no policies.
const MAX_BYTES: u64 = 1 << 20;

/// The files behind the paths, in order: a file is itself, a directory its `*.yaml` and `*.yml`, sorted by name.
///
/// Names that start with a dot are left out: a mounted ConfigMap keeps its contents in `..data`
/// (a symlink to `..2026_…/`) and links to them by their plain names; read by both, each would come twice.
/// A file named twice is read once.
///
/// # Errors
/// The path that failed and why: it does not exist, cannot be read, or is a directory without policies.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut files = Vec::new();
    for path in paths {
        let found = if path.is_dir() { directory(path) } else { Ok(vec![path.clone()]) };
        files.extend(found.map_err(|error| (path.clone(), error))?);
    }
    let mut seen = BTreeSet::new();
    let mut first_time =
        |path: &PathBuf| seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone()));
    files.retain(|path| first_time(path));
    Ok(files)
}

fn directory(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !hidden && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no *.yaml in this directory"));
    }
    files.sort();
    Ok(files)
}

/// A regular file's text.
///
/// # Errors
/// No regular file (a pipe would block the agent), over 1 MiB, not UTF-8, or what the system says.
pub fn text(path: &Path) -> io::Result<String> {
    let refused = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    let meta = fs::metadata(path)?;
    if !meta.is_file() {
        return refused("not a regular file");
    }
    if meta.len() > MAX_BYTES {
        return refused("larger than 1 MiB");
    }
    String::from_utf8(fs::read(path)?).or_else(|_| refused("not UTF-8 text"))
}
