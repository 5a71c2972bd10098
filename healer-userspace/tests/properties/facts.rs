//! Facts made up for [`super::machine`].

use healer_userspace::{
    engine::time::BootTime,
    identity::process::ProcessId,
    signal::{Exit, Fact, OomKill, OomScope, Party, SignalSent},
};

pub(crate) fn ended_by(signal: i32) -> Exit {
    Exit { signal: Some(signal), ..Exit::default() }
}

fn party() -> Party {
    Party { id: ProcessId { pid: 42, start: BootTime(9) }, comm: "bash".into(), ..Party::default() }
}

pub(crate) fn sent(signal: i32, si_code: i32, group: bool) -> SignalSent {
    let sender = (si_code <= 0).then(party);
    SignalSent { signal, si_code, sender, group, ..SignalSent::default() }
}

pub(crate) fn oom() -> Fact {
    let memcg = "/limited".to_owned();
    let (scope, is_scope_guessed) = (OomScope::Memcg, false);
    Fact::OomKilled(OomKill { scope, is_scope_guessed, trigger: party(), memcg, usage: 64, limit: 64 })
}
