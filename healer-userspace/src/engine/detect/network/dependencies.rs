//! Which of its peers a client fails for.

use super::{
    CAUSE_COMES_WITHIN, Context, Finding, Network, Who,
    client::{Surety, Verdict, earliest},
    kind::Kind,
    peer::Down,
    words,
};

impl Network {
    pub(super) fn dependencies(
        &mut self,
        context: &Context<'_>,
        who: &Who,
        verdict: &Verdict,
        found: &mut Vec<Finding>,
    ) {
        let Some(client) = self.clients.get(who) else {
            return;
        };
        if !client.is_calm(context.now) {
            if !verdict.down.is_empty() {
                self.due = earliest(self.due, Some(client.calm_until));
            }
            return;
        }
        for (address, (down, surety)) in &verdict.down {
            let key = (who.clone(), *address);
            let said = self.down.get(&key);
            if said.is_some_and(|said| !said.is_doubtful || down.is_doubtful) {
                continue;
            }
            let suffering = self.suffering(&key);
            let is_to_blame = self.blames_the_peer(context, &key, down.since, *surety);
            let surety = if is_to_blame { Surety::Sure } else { *surety };
            let is_doubtful = down.is_doubtful || surety != Surety::Sure;
            let is_no_surer = is_doubtful && said.is_some();
            if is_no_surer || matches!(surety, Surety::Waits(_)) {
                continue;
            }
            let cause = self.cause_of(context, &key, down);
            let told_by = down.since + CAUSE_COMES_WITHIN;
            let may_be_here = !down.needs_no_cause && (down.is_local || down.kind == Kind::Unreachable);
            if cause.is_none() && may_be_here && context.now < told_by {
                self.due = earliest(self.due, Some(told_by));
                continue;
            }
            // Held up for want of a route is no silence of the peer's.
            let kind =
                if cause.is_some() && !down.kind.was_reached() { Kind::Unreachable } else { down.kind };
            let down = Down { kind, ..*down };
            let others = words::Others {
                well: verdict.well,
                suffering,
                server: client.server_of(address).or_else(|| context.world.topology().server(who.1, address)),
                cause,
            };
            found.push(words::dependency(context, &key, client, (&down, surety), &others));
            // Once another peer answers, or another workload suffers, it is more than a suspicion.
            self.down.insert(key, Down { is_doubtful, ..down });
            if 0 < suffering {
                self.due = Some(context.now);
            }
        }
    }
}
