//! The cluster's policies as they were last: in force from the start, until the cluster tells them anew. Without them
//! what an earlier life meant to do would look like the work of no policy, and a broader file would own what they own.

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
};

use crate::{
    config::FromCluster,
    store::dir::{Access, StateDir},
};

const NAME: &str = "cluster-policies.json";
const NEW: &str = "cluster-policies.json.new";

/// None, if none were kept or they cannot be read; why not is said.
pub(super) fn recall(state_dir: &Path) -> Vec<FromCluster> {
    read(state_dir).unwrap_or_else(|error| {
        tracing::warn!("the cluster's policies of the last run are not known ({NAME}): {error}");
        Vec::new()
    })
}

fn read(state_dir: &Path) -> io::Result<Vec<FromCluster>> {
    if !state_dir.exists() {
        return Ok(Vec::new());
    }
    let dir = StateDir::open(state_dir).map_err(io::Error::other)?;
    let Some(mut file) = dir.existing(NAME)? else { return Ok(Vec::new()) };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

pub(super) fn keep(state_dir: &Path, policies: &[FromCluster]) {
    if let Err(error) = write(state_dir, policies) {
        tracing::warn!("the cluster's policies are not kept for the next start ({NAME}): {error}");
    }
}

fn write(state_dir: &Path, policies: &[FromCluster]) -> io::Result<()> {
    let dir = StateDir::open(state_dir).map_err(io::Error::other)?;
    dir.file(NEW, Access::Replace)?.write_all(&serde_json::to_vec(policies)?)?;
    dir.rename(NEW, NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;

    #[test]
    fn the_last_ones_are_known_at_the_next_start() {
        let scratch = Scratch::new("last-policies");
        let path = scratch.path().join("state");
        assert_eq!(recall(&path), []);
        StateDir::create(&path).unwrap();
        let of =
            |name: &str| FromCluster { name: name.into(), generation: 3, text: "kind: HealPolicy".into() };
        keep(&path, &[of("web"), of("db")]);
        keep(&path, &[of("web")]);
        assert_eq!(recall(&path), [of("web")]);
        std::fs::write(path.join(NAME), "{").unwrap();
        assert_eq!(recall(&path), []);
    }
}
