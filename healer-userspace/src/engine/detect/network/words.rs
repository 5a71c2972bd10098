//! What is said of it: diagnoses with their sentence and evidence.

use core::net::SocketAddr;

use serde_json::json;

use super::{
    Who,
    client::{Client, Isolated, Surety},
    cut_off::CutOff,
    kind::Kind,
    links::Cause,
    peer::{Down, Peer, Piece},
};
use crate::{
    engine::{
        class::{Certainty, Class},
        detect::{Context, Finding, Subject},
        diagnosis::{Detail, Diagnosis, Evidence},
        time::{BootTime, Human},
    },
    identity::process::Process,
    signal::network::Stalled,
    text,
};

const EVIDENCE_SHOWN: usize = 8;

/// Who is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Others in its network namespace are well.
    Workload,
    Netns,
    /// Everybody of whom anything is known.
    Node,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Netns => "netns",
            Self::Node => "node",
        }
    }
}

/// What speaks against those who are out of reach.
pub(super) fn of_the_lost(client: &Client, isolated: &Isolated) -> Vec<Evidence> {
    let lost = isolated.peers.iter().filter_map(|address| client.peers.get(address));
    pieces(lost.flat_map(|peer| peer.evidence().rev().take(2)))
}

pub(super) fn isolation(context: &Context<'_>, who: &Who, client: &Client, said: &CutOff) -> Finding {
    raised(subject(who), isolated(context, who, client, said))
}

/// It was said before, and reaches less far.
pub(super) fn narrower(context: &Context<'_>, who: &Who, client: &Client, said: &CutOff) -> Finding {
    let diagnosis = Box::new(isolated(context, who, client, said));
    Finding::Restated { subject: subject(who), diagnosis }
}

fn subject(who: &Who) -> Subject {
    Subject::Network(who.0.clone(), who.1)
}

fn isolated(context: &Context<'_>, who: &Who, client: &Client, said: &CutOff) -> Diagnosis {
    let CutOff { isolated, scope, cause: told, evidence, .. } = said;
    let cause = match (told, isolated.has_no_route, isolated.is_local) {
        (Some(told), ..) => told.name,
        (None, true, _) => "no_route",
        (None, false, true) => "local",
        (None, false, false) => "path",
    };
    let why = match (told, cause) {
        (Some(told), _) => told.says.as_str(),
        (None, "no_route") => "this machine has no route: a link that is down, or a route that is gone",
        (None, "local") => "this machine itself would not send",
        (None, _) => "nothing says no, so it is on the way or on the far side",
    };
    let sentence = format!(
        "{} is cut off ({}): {} of its {} peers out of reach for {}; {why}{}",
        name(&client.process),
        scope.name(),
        isolated.down,
        isolated.of,
        Human(context.now.since(isolated.since)),
        doubt(isolated.is_doubtful),
    );
    let proof = json!({
        "scope": scope.name(), "cause": cause, "netns": who.1, "peers": isolated.peers, "of": isolated.of,
    });
    let is_proved = isolated.is_local && !isolated.has_no_route;
    let certainty = match (is_proved, isolated.is_doubtful) {
        (true, _) => Certainty::Proved,
        (false, false) => Certainty::Probable,
        (false, true) => Certainty::Suspected,
    };
    Diagnosis {
        class: Class::NetworkIsolation,
        certainty,
        detail: detail(scope.name(), isolated.down, proof),
        ..diagnosis(context, client, isolated.since, sentence, evidence.clone())
    }
}

pub(super) fn connected(who: &Who, why: &str) -> Finding {
    isolation_over(who, &format!("no longer cut off: {why}"))
}

pub(super) fn isolation_over(who: &Who, says: &str) -> Finding {
    Finding::Cleared { subject: subject(who), class: Class::NetworkIsolation, says: says.to_owned() }
}

/// What is known beside the client and its peer.
pub(super) struct Others<'a> {
    /// Peers of the client that answer.
    pub(super) well: usize,
    /// Other workloads for which this peer is down already.
    pub(super) suffering: usize,
    pub(super) server: Option<&'a Process>,
    pub(super) cause: Option<Cause>,
}

pub(super) fn dependency(
    context: &Context<'_>,
    (who, address): &(Who, SocketAddr),
    client: &Client,
    (down, surety): (&Down, Surety),
    others: &Others<'_>,
) -> Finding {
    let Others { well, suffering, server, cause } = others;
    let peer = client.peers.get(address);
    let evidence = peer.map(|peer| evidence(peer, down.kind)).unwrap_or_default();
    let all = peer.map_or(0, |peer| peer.evidence().count());
    let count = if matches!(down.kind, Kind::Frozen | Kind::Dns) { evidence.len() } else { all };
    let before = last_heard(context.now, peer, down.kind);
    let compared = match surety {
        Surety::Sure if *well == 0 => String::new(),
        Surety::Sure => format!("; {well} other peers answer"),
        Surety::OnlyPeer | Surety::Waits(_) => {
            "; no other peer is asked, so the client may be cut off instead".to_owned()
        }
    };
    let shared = if *suffering == 0 { String::new() } else { format!("; {suffering} more workloads suffer") };
    let blamed = server.map(|server| format!(", which is {}", name(server))).unwrap_or_default();
    let why = cause.as_ref().map(|cause| format!("; {}", cause.says)).unwrap_or_default();
    let sentence = format!(
        "{} depends on {address}{blamed}, which {}: {count} failures in {}, {before}{compared}{shared}{why}{}",
        name(&client.process),
        says(down.kind),
        Human(context.now.since(down.since)),
        doubt(down.is_doubtful && down.kind != Kind::Frozen),
    );
    let cause = match cause {
        Some(cause) => cause.name,
        None if down.is_local => "local",
        None => "peer",
    };
    let proof = json!({
        "peer": address, "kind": down.kind.name(), "cause": cause, "netns": who.1, "workloads": suffering + 1,
        "other_peers_well": well, "server": server.map(|server| server.workload.0.clone()),
    });
    let is_sure = surety == Surety::Sure && !down.is_doubtful;
    raised(
        Subject::Peer(who.0.clone(), who.1, *address),
        Diagnosis {
            class: Class::DependencyFailure,
            certainty: if is_sure { Certainty::Probable } else { Certainty::Suspected },
            related: server.iter().copied().cloned().collect(),
            detail: detail(down.kind.name(), count, proof),
            ..diagnosis(context, client, down.since, sentence, evidence)
        },
    )
}

/// A connection that is older than the agent was never seen to be made.
fn last_heard(now: BootTime, peer: Option<&Peer>, kind: Kind) -> String {
    let ago = |at: BootTime| Human(now.since(at));
    match peer.map(|peer| (peer.last_ok, peer.last_answer())) {
        Some((Some(ok), _)) => format!("last connection made {} ago", ago(ok)),
        Some((None, Some(heard))) => format!("last heard of {} ago", ago(heard)),
        Some((None, None)) | None if kind == Kind::Dns => "nothing came back".to_owned(),
        Some((None, None)) | None => "no answer of it was seen".to_owned(),
    }
}

/// A lesser rung of the sensors does not tell how a connection ended, or what was answered in between.
fn doubt(is_doubtful: bool) -> &'static str {
    if is_doubtful {
        "; part of it is concluded, not seen: `healer sensors` says what this kernel does not tell"
    } else {
        ""
    }
}

fn evidence(peer: &Peer, kind: Kind) -> Vec<Evidence> {
    if kind == Kind::Dns {
        let line = |(at, says): (BootTime, &str)| Evidence {
            signal: kind.signal().to_owned(),
            at,
            says: says.to_owned(),
        };
        return peer.stuck.questions.says().take(EVIDENCE_SHOWN).map(line).collect();
    }
    match peer.stuck.frozen().filter(|_| kind == Kind::Frozen) {
        Some(frozen) => {
            let signal = kind.signal().to_owned();
            vec![Evidence { signal, at: frozen.since, says: frozen.says.clone() }]
        }
        None => pieces(peer.evidence()),
    }
}

/// Connections that stay dead although their peer is well.
pub(super) fn stale(
    context: &Context<'_>,
    (who, address): &(Who, SocketAddr),
    client: &Client,
    stale: &[&Stalled],
    server: Option<&Process>,
) -> Finding {
    let since = stale.iter().map(|one| one.since).min().unwrap_or(context.now);
    let age = Human(context.now.since(since));
    let sentence = format!(
        "{} keeps {} dead connections to {address}: no answer on them for {age}, though new ones are made",
        name(&client.process),
        stale.len(),
    );
    let line = |one: &&Stalled| Evidence {
        signal: Kind::Stale.signal().to_owned(),
        at: one.since,
        says: format!(
            "{} to {address}: sent again {} times in a row, no answer",
            one.flow.local, one.retransmits
        ),
    };
    let connections: Vec<_> = stale
        .iter()
        .map(|one| json!({"cookie": one.flow.cookie, "local": one.flow.local, "acked": one.acked}))
        .collect();
    let proof = json!({
        "peer": address, "kind": Kind::Stale.name(), "cause": "connections", "netns": who.1,
        "connections": connections, "server": server.map(|server| server.workload.0.clone()),
    });
    raised(
        Subject::Peer(who.0.clone(), who.1, *address),
        Diagnosis {
            class: Class::DependencyFailure,
            certainty: Certainty::Probable,
            detail: detail(Kind::Stale.name(), stale.len(), proof),
            ..diagnosis(
                context,
                client,
                since,
                sentence,
                stale.iter().take(EVIDENCE_SHOWN).map(line).collect(),
            )
        },
    )
}

pub(super) fn answers((who, address): &(Who, SocketAddr), why: &str) -> Finding {
    Finding::Cleared {
        subject: Subject::Peer(who.0.clone(), who.1, *address),
        class: Class::DependencyFailure,
        says: format!("{address}: {why}"),
    }
}

pub(super) fn degraded(
    context: &Context<'_>,
    (who, address): &(Who, SocketAddr),
    client: &Client,
    peer: &Peer,
) -> Finding {
    let sentence = format!(
        "the path from {} to {address} loses packets: {} gaps without an answer within a minute, {} segments \
         sent again since it is known; it works all the same",
        name(&client.process),
        peer.gaps(),
        peer.totals.retransmits,
    );
    let proof = json!({"peer": address, "gaps": peer.gaps(), "retransmits": peer.totals.retransmits});
    // What was silent has answered since: of it only that is left, and when.
    let gap = |at| Evidence {
        signal: Kind::NoAnswer.signal().to_owned(),
        at,
        says: "an answer, after a silence in which segments were sent again".to_owned(),
    };
    let evidence: Vec<_> = peer.answered_late().take(EVIDENCE_SHOWN).map(gap).collect();
    let began = evidence.first().map_or(context.now, |first| first.at);
    raised(
        Subject::Peer(who.0.clone(), who.1, *address),
        Diagnosis {
            class: Class::DegradedPath,
            certainty: Certainty::Probable,
            detail: detail("loss", peer.gaps(), proof),
            ..diagnosis(context, client, began, sentence, evidence)
        },
    )
}

pub(super) fn steady((who, address): &(Who, SocketAddr), why: &str) -> Finding {
    Finding::Cleared {
        subject: Subject::Peer(who.0.clone(), who.1, *address),
        class: Class::DegradedPath,
        says: format!("{address}: {why}"),
    }
}

fn says(kind: Kind) -> &'static str {
    match kind {
        Kind::Refuses => "refuses",
        Kind::Unreachable => "cannot be reached",
        Kind::NoAnswer => "does not answer",
        Kind::Frozen => "takes connections and reads nothing",
        Kind::Dns => "does not answer questions for names",
        Kind::Stale => "leaves old connections dead",
    }
}

fn raised(subject: Subject, diagnosis: Diagnosis) -> Finding {
    Finding::Raised { subject, diagnosis: Box::new(diagnosis) }
}

fn detail(kind: &str, count: usize, proof: serde_json::Value) -> Detail {
    Detail {
        kind: Some(kind.to_owned()),
        evidence_count: u32::try_from(count).unwrap_or(u32::MAX),
        proof: Some(proof),
        ..Detail::default()
    }
}

/// All but what the class says.
fn diagnosis(
    context: &Context<'_>,
    client: &Client,
    fault_at: BootTime,
    sentence: String,
    evidence: Vec<Evidence>,
) -> Diagnosis {
    Diagnosis {
        class: Class::DependencyFailure,
        certainty: Certainty::Suspected,
        target: client.process.clone(),
        related: Vec::new(),
        fault_at,
        detected_at: context.now,
        sentence,
        evidence,
        lost: context.memory.lost_since(fault_at),
        // A lost record may have been the answer, but answers are counted in a map, which loses none.
        from_absence: false,
        detail: Detail::default(),
    }
}

fn pieces<'a>(pieces: impl Iterator<Item = &'a Piece>) -> Vec<Evidence> {
    let line = |piece: &Piece| Evidence {
        signal: piece.kind.signal().to_owned(),
        at: piece.at,
        says: piece.says.clone(),
    };
    pieces.take(EVIDENCE_SHOWN).map(line).collect()
}

fn name(process: &Process) -> String {
    if process.pid == 0 {
        return text::printable(&process.workload.0).into_owned();
    }
    format!("{}[{}]", text::printable(&process.comm), process.pid)
}
