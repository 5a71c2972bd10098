//! Which live tests run once more with an agent that has the rights of a shipped profile, and no other: those that say
//! `//! act rights: NAME NAME …` in the first lines of their file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::vm::tests_of;

const MARK: &str = "//! act rights:";

/// Files (stems in `dir`) and the full names of their tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) files: Vec<String>,
    pub(crate) tests: Vec<String>,
}

/// # Errors
/// A mark that names no test: it would run nothing, and pass.
pub(crate) fn marked(dir: &Path, files: &[String]) -> Result<Marked> {
    let mut marked = Marked::default();
    for file in files {
        let sources = sources_of(dir, file)?;
        let Some(tests) = sources.first().and_then(|(_, head)| tests_of(head, MARK)) else { continue };
        for test in &tests {
            let (module, name) = test.rsplit_once("::").unwrap_or(("main", test));
            let is_there = sources
                .iter()
                .any(|(of, source)| of == module && source.contains(&format!("#[test]\nfn {name}()")));
            ensure!(is_there, "{file} has no test {test}, which its line `{MARK}` names");
        }
        ensure!(!tests.is_empty(), "{file}: name the tests after `{MARK}`");
        marked.files.push(file.clone());
        marked.tests.extend(tests);
    }
    ensure!(!marked.files.is_empty(), "no test file in {} says `{MARK}`", dir.display());
    Ok(marked)
}

/// By module, the one with the head, `main`, first.
fn sources_of(dir: &Path, file: &str) -> Result<Vec<(String, String)>> {
    let alone = dir.join(format!("{file}.rs"));
    let read = |path: PathBuf| fs::read_to_string(&path).with_context(|| path.display().to_string());
    if alone.exists() {
        return Ok(vec![("main".to_owned(), read(alone)?)]);
    }
    let folder = dir.join(file);
    let mut sources = vec![("main".to_owned(), read(folder.join("main.rs"))?)];
    for entry in folder.read_dir().with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let module = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        if let Some(module) = module.filter(|module| module != "main" && path.is_file()) {
            sources.push((module, read(path)?));
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_names_no_test_is_an_error() {
        let dir = std::env::temp_dir().join(format!("healer-rights-{}", std::process::id()));
        fs::create_dir_all(dir.join("live_b")).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        write("live_a.rs", "//! About.\n//! act rights: x\n#[test]\nfn x() {}\n");
        write("live_b/main.rs", "//! act rights: m::y\nmod m;\n");
        write("live_b/m.rs", "#[test]\nfn y() {}\n");
        write("live_c.rs", "//! About.\n");
        let of =
            |files: &[&str]| marked(&dir, &files.iter().map(|&file| file.to_owned()).collect::<Vec<_>>());
        let all = of(&["live_a", "live_b", "live_c"]).unwrap();
        assert_eq!(
            (all.files, all.tests),
            (vec!["live_a".into(), "live_b".into()], vec!["x".into(), "m::y".into()])
        );
        assert!(of(&["live_c"]).is_err(), "nothing would run");
        for (head, names) in [("z", "z"), ("m::x", "m::x"), ("y", "y")] {
            write("live_a.rs", &format!("//! act rights: {head}\n#[test]\nfn x() {{}}\nfn y() {{}}\n"));
            assert!(of(&["live_a"]).unwrap_err().to_string().contains(&format!("no test {names}")));
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
