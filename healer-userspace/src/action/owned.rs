//! What to say to the owner of a target: systemd for a unit, the runtime for a container.

use super::{grace, host::Host, timeout};
use crate::{
    engine::{class::Class, command::Act},
    runtimes::{Order, Owner},
};

/// None: nobody owns it.
pub(super) fn order(act: &Act, host: &dyn Host) -> Option<Order> {
    let place = &act.target.place;
    let owner = match (&place.container, &place.unit) {
        (Some(container), _) => {
            Owner::Container { runtime: container.runtime.clone(), id: container.id.clone() }
        }
        (None, Some(unit)) => Owner::Unit(unit.clone()),
        (None, None) => return None,
    };
    Some(Order {
        owner,
        target: act.target.id(),
        is_main: act.target.main,
        // A child that the kernel killed leaves its container running, at its limit.
        is_dead: (act.target.main || act.class != Class::OomKill) && host.hold(act.target.id()).is_err(),
        cgroup: act.target.cgroup.clone(),
        pod: place.pod.clone(),
        grace: grace(act),
        limit: timeout(act),
    })
}
