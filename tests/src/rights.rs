//! An agent with the rights of a profile as it is shipped, and no other.

use std::{fs, process::Command};

use healer_userspace::capabilities::CAPABILITIES;

use crate::{binary::healer, deploy};

/// What `cargo xtask test --rights` sets: agents of `Home` then have what this profile gives. Victims have all: they
/// may have to become somebody else.
const PROFILE: &str = "HEALER_TEST_RIGHTS";

fn profile() -> Option<Vec<String>> {
    let name = std::env::var(PROFILE).ok()?;
    match name.as_str() {
        "base" => Some(deploy::rights_of_daemon_set(false)),
        "act" => Some(deploy::rights_of_daemon_set(true)),
        other => panic!("{PROFILE}: {other:?} is neither base nor act"),
    }
}

/// `healer`, with these rights.
#[must_use]
pub fn healer_with(rights: &[String]) -> Command {
    let set: String = rights.iter().map(|name| format!(",+{name}")).collect();
    let mut command = Command::new("setpriv");
    command.args([&format!("--bounding-set=-all{set}"), "--inh-caps=-all", "--no-new-privs"]);
    command.arg(healer());
    command
}

/// `healer` as the tests of this run have it.
#[must_use]
pub(crate) fn agent() -> Command {
    profile().map_or_else(|| Command::new(healer()), |rights| healer_with(&rights))
}

/// That an agent of this run is no more than it should be, however it was started.
pub(crate) fn are_kept(pid: u32) {
    let Some(rights) = profile() else { return };
    let given = set_with(&rights);
    let (bounding, effective) = (set_of(pid, "CapBnd:"), set_of(pid, "CapEff:"));
    let ours = set_of(std::process::id(), "CapBnd:");
    assert_eq!(bounding, given & ours, "the agent of this test is not confined to {rights:?}");
    assert_eq!(effective & !given, 0, "{effective:x}");
}

/// As the kernel keeps it.
///
/// # Panics
/// If one of them is none that healer may be given.
#[must_use]
pub fn set_with(rights: &[String]) -> u64 {
    let named = |name: &str| rights.iter().any(|right| name.eq_ignore_ascii_case(&format!("cap_{right}")));
    let set = CAPABILITIES.iter().filter(|one| named(one.name)).fold(0_u64, |set, one| set | 1 << one.bit);
    assert_eq!(set.count_ones() as usize, rights.len(), "all of {rights:?} are in healer's own table");
    set
}

/// A set of this process, for example `CapEff:`.
///
/// # Panics
/// If it has ended.
#[must_use]
pub fn set_of(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let set = status.lines().find_map(|line| line.strip_prefix(key)).expect(key);
    u64::from_str_radix(set.trim(), 16).expect("hexadecimal")
}
