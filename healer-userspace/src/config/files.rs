//! Which files a path stands for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::Sources;

/// Larger files are no policies.
const MAX_BYTES: u64 = 1 << 20;

/// What the files behind the sources look like, without their contents: a change of any of them, one more or one
/// less, is another look. Taken before they are read, so that a change meanwhile is found by the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look(BTreeMap<PathBuf, Option<Print>>);

/// Device, inode, size and modification time: an atomic rename changes the inode.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print(u64, u64, u64, i64, i64);

impl Look {
    pub fn at(sources: &Sources) -> Self {
        let paths: Vec<PathBuf> = sources.policies.iter().chain(&sources.config).cloned().collect();
        let files = expand(&paths).unwrap_or_else(|(path, _)| vec![path]);
        Self(files.into_iter().map(|file| (file.clone(), Print::of(&file))).collect())
    }
}

impl Print {
    fn of(path: &Path) -> Option<Self> {
        let meta = path.metadata().ok()?;
        Some(Self(meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
    }
}

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
