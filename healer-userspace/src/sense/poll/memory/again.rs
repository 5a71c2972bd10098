//! One look at a cgroup that was said to leak, just before somebody is ended for it.

use std::{fs, path::Path};

use super::{group::MemoryStat, tree::Tree, users::anon_of};

/// Of the limit, taken for good: what was told at 85 % may have moved a little.
const NEAR_PERCENT: u64 = 80;
/// Of the limit: less than then by so much is no growth.
const SLACK_PERCENT: u64 = 3;

/// # Errors
/// In words: there is room by now, or who is to be ended has given back what it took, or it cannot be seen.
pub fn short_again(cgroup: &Path, proof: &serde_json::Value) -> Result<(), String> {
    let (path, then) = (proof["cgroup"].as_str().unwrap_or_default(), proof["anon_bytes"].as_u64());
    let tree = Tree::new(cgroup);
    let dir = tree.dir(path);
    let read = |file: &str| {
        let text = fs::read_to_string(dir.join(file));
        text.map_err(|error| format!("cannot look at the memory of {path} again: {error}"))
    };
    let stat = MemoryStat::parse(&read("memory.stat")?);
    let (now, limit) = (stat.anon + stat.shmem, read(tree.limit_file())?.trim().parse().unwrap_or(u64::MAX));
    let is_near = limit / 100 * NEAR_PERCENT <= now;
    let slack = limit / 100 * SLACK_PERCENT;
    let is_less = then.is_some_and(|then| now + slack < then);
    if is_near && !is_less {
        return still_holds(proof, slack);
    }
    let limit = if limit == u64::MAX { "no limit".to_owned() } else { format!("{} MiB", mib(limit)) };
    let before = then.map_or(String::new(), |then| format!(", {} MiB then", mib(then)));
    Err(format!("{path} has room by now: {} MiB of {limit} are taken for good{before}", mib(now)))
}

/// The cgroup may be full of what another has taken since.
fn still_holds(proof: &serde_json::Value, slack: u64) -> Result<(), String> {
    let number = |name: &str| proof[name].as_u64();
    let Some((pid, then)) = number("pid").zip(number("process_anon_bytes")) else {
        return Ok(());
    };
    let now = anon_of(Path::new("/proc"), u32::try_from(pid).unwrap_or_default());
    match now {
        Some(now) if now + slack < then => {
            Err(format!("process {pid} has given back: it holds {} MiB, {} MiB then", mib(now), mib(then)))
        }
        // Whoever has ended is somebody else's question.
        Some(_) | None => Ok(()),
    }
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;

    const MIB: u64 = 1 << 20;

    /// A v2 cgroup of 100 MiB.
    fn look(anon: u64, then: u64) -> Result<(), String> {
        let root = Scratch::new("again");
        let dir = root.path().join("web");
        fs::create_dir_all(&dir).unwrap();
        fs::write(root.path().join("cgroup.controllers"), "memory").unwrap();
        fs::write(dir.join("memory.stat"), format!("anon {}\nshmem 0\n", anon * MIB)).unwrap();
        fs::write(dir.join("memory.max"), (100 * MIB).to_string()).unwrap();
        short_again(root.path(), &serde_json::json!({"cgroup": "/web", "anon_bytes": then * MIB}))
    }

    #[test]
    fn what_is_as_short_as_then_is_short() {
        assert_eq!(look(90, 88), Ok(()));
        assert_eq!(look(87, 88), Ok(()), "a little less is nothing");
        let says = "/web has room by now: 60 MiB of 100 MiB are taken for good, 88 MiB then";
        assert_eq!(look(60, 88), Err(says.to_owned()));
        assert!(look(85, 95).is_err(), "it has shrunk");
    }

    #[test]
    fn who_has_given_back_is_not_ended_for_what_others_hold() {
        let holds = |then: u64| {
            let proof = serde_json::json!({"pid": std::process::id(), "process_anon_bytes": then});
            still_holds(&proof, MIB)
        };
        assert_eq!((holds(0), still_holds(&serde_json::json!({}), 0)), (Ok(()), Ok(())));
        assert!(holds(1 << 40).unwrap_err().contains("has given back: it holds "));
    }
}
