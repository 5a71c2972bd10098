//! Connections that are made and move: an answer, also where no new connection is asked for, as in a pool.

use std::collections::BTreeSet;

use super::{Network, Who};
use crate::signal::network::Moved;

impl Network {
    /// Those of whom something has changed by it.
    pub(super) fn moved(&mut self, moved: &[Moved]) -> BTreeSet<Who> {
        let mut touched = BTreeSet::new();
        for one in moved {
            for (who, client) in self.clients.iter_mut().filter(|(who, _)| who.1 == one.netns) {
                // Of those who live in one namespace, the cgroup tells whose connection it is.
                if !client.is_of(one.cgroup) {
                    continue;
                }
                let Some(peer) = client.peers.get_mut(&one.peer) else { continue };
                if peer.moved(one.at) || self.isolated.contains_key(who) {
                    touched.insert(who.clone());
                }
            }
        }
        touched
    }
}
