//! One look at a cgroup that was said to leak, or at memory that was short, just before somebody is ended for it.

use std::{fs, path::Path};

use super::{group::MemoryStat, node::meminfo, tree::Tree, users::anon_of};

/// Of the limit, taken for good: what was told at 85 % may have moved a little.
const NEAR_PERCENT: u64 = 80;
/// Of the limit: less than then by so much is no growth.
const SLACK_PERCENT: u64 = 3;
/// Of the limit in use, or of the node's memory available: then it is not short.
const USED_PERCENT: u64 = 90;
const AVAILABLE_PERCENT: u64 = 10;

/// # Errors
/// In words: there is room by now, or who is to be ended has given back what it took, or it cannot be seen.
pub fn short_again(cgroup: &Path, proof: &serde_json::Value) -> Result<(), String> {
    match proof["scope"].as_str() {
        Some("node") => node_is_short(Path::new("/proc")).and_then(|()| still_grown(proof)),
        Some(_) => is_full(cgroup, proof).and_then(|()| still_grown(proof)),
        None => leaks_again(cgroup, proof),
    }
}

fn node_is_short(proc: &Path) -> Result<(), String> {
    let text = fs::read_to_string(proc.join("meminfo")).unwrap_or_default();
    let (total, available) = meminfo(&text).ok_or("cannot look at the node's memory again")?;
    if available < total / 100 * AVAILABLE_PERCENT {
        return Ok(());
    }
    Err(format!("the node has room by now: {} of {} MiB are available", mib(available), mib(total)))
}

fn is_full(cgroup: &Path, proof: &serde_json::Value) -> Result<(), String> {
    let path = proof["cgroup"].as_str().unwrap_or_default();
    let tree = Tree::new(cgroup);
    let number = |file: &str| {
        let text = fs::read_to_string(tree.dir(path).join(file));
        text.map_err(|error| format!("cannot look at the memory of {path} again: {error}"))
    };
    let usage: u64 = number(tree.usage_file())?.trim().parse().unwrap_or(0);
    let limit: u64 = number(tree.limit_file())?.trim().parse().unwrap_or(u64::MAX);
    if limit / 100 * USED_PERCENT <= usage {
        return Ok(());
    }
    Err(format!("{path} has room by now: {} MiB are in use", mib(usage)))
}

/// Whoever has given back half of what it grew by is not the reason any more.
fn still_grown(proof: &serde_json::Value) -> Result<(), String> {
    still_holds(proof, proof["grown_bytes"].as_u64().unwrap_or(0) / 2)
}

fn leaks_again(cgroup: &Path, proof: &serde_json::Value) -> Result<(), String> {
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

/// It may be full of what another has taken since. Of a family the numbers are its workers' and the pid is their
/// parent's.
fn still_holds(proof: &serde_json::Value, slack: u64) -> Result<(), String> {
    let number = |name: &str| proof[name].as_u64();
    if number("workers").is_some_and(|workers| 0 < workers) {
        return Ok(());
    }
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

    #[test]
    fn who_has_given_back_what_it_grew_is_not_the_reason_any_more() {
        let grown = |then: u64, workers: u32| {
            still_grown(&serde_json::json!({
                "pid": std::process::id(), "workers": workers,
                "process_anon_bytes": then, "grown_bytes": then / 2,
            }))
        };
        assert_eq!(grown(0, 0), Ok(()));
        assert!(grown(1 << 40, 0).unwrap_err().contains("has given back"));
        assert_eq!(grown(1 << 40, 3), Ok(()), "the workers have it, not their parent");
    }

    #[test]
    fn what_is_short_for_pressure_is_full_or_has_nothing_available() {
        let root = Scratch::new("again-full");
        let dir = root.path().join("web");
        fs::create_dir_all(&dir).unwrap();
        fs::write(root.path().join("cgroup.controllers"), "memory").unwrap();
        fs::write(dir.join("memory.max"), (100 * MIB).to_string()).unwrap();
        let full = |usage: u64| {
            fs::write(dir.join("memory.current"), (usage * MIB).to_string()).unwrap();
            short_again(root.path(), &serde_json::json!({"scope": "cgroup", "cgroup": "/web"}))
        };
        assert_eq!(full(97), Ok(()));
        assert_eq!(full(60), Err("/web has room by now: 60 MiB are in use".to_owned()));
        let node = |available: u64| {
            let text = format!("MemTotal: 102400 kB\nMemAvailable: {} kB\n", available * 1024);
            fs::write(root.path().join("meminfo"), text).unwrap();
            node_is_short(root.path())
        };
        assert_eq!(node(5), Ok(()));
        let says = "the node has room by now: 40 of 100 MiB are available";
        assert_eq!(node(40), Err(says.to_owned()));
    }
}
