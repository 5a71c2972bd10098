//! Connections that are made and move: an answer, also where no new connection is asked for, as in a pool.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::{Network, Who, client::Client};
use crate::signal::network::Moved;

impl Network {
    /// Those of whom something has changed by it.
    pub(super) fn moved(&mut self, moved: &[Moved]) -> BTreeSet<Who> {
        let mut by_place: BTreeMap<u32, BTreeMap<SocketAddr, Vec<&Moved>>> = BTreeMap::new();
        for one in moved {
            by_place.entry(one.netns).or_default().entry(one.peer).or_default().push(one);
        }
        let mut touched = BTreeSet::new();
        for (who, client) in &mut self.clients {
            let Some(here) = by_place.get(&who.1) else { continue };
            let (is_heard, has_changed) = client.moved(here);
            if has_changed || is_heard && self.isolated.contains_key(who) {
                touched.insert(who.clone());
            }
        }
        touched
    }
}

impl Client {
    /// Is one of its peers heard of, and has something changed by it?
    fn moved(&mut self, here: &BTreeMap<SocketAddr, Vec<&Moved>>) -> (bool, bool) {
        let cgroup = self.cgroup;
        let (mut is_heard, mut has_changed) = (false, false);
        for (address, peer) in &mut self.peers {
            let told = here.get(address).into_iter().flatten().filter(|one| is_its(cgroup, one));
            for one in told {
                is_heard = true;
                has_changed |= peer.moved(one.at);
            }
        }
        (is_heard, has_changed)
    }
}

/// Of those who live in one namespace, the cgroup tells whose connection it is.
fn is_its(cgroup: u64, one: &Moved) -> bool {
    one.cgroup == 0 || cgroup == 0 || cgroup == one.cgroup
}
