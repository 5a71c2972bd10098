//! `expect.dependsOn`

use super::{
    super::{
        key::{Items, Key},
        policy as shape,
        problem::Fault,
    },
    required,
};
use crate::engine::policy::depends::DependsOn;

pub(super) fn read(given: &Key<Items<shape::DependsOn>>, faults: &mut Vec<Fault>) -> Vec<DependsOn> {
    let mut all = Vec::new();
    if let Some(empty) = given.given().filter(|given| given.value.0.is_empty() && faults.is_empty()) {
        let message = "dependsOn: an empty list means nothing: leave the key out";
        faults.push(Fault::new(empty.place, message));
    }
    for item in given.value().iter().flat_map(|items| &items.0) {
        let Some(service) = required(&item.value.service, "service", "dependsOn", item.place, faults) else {
            continue;
        };
        let port = item.value.port.given();
        if let Some(zero) = port.filter(|port| port.value == 0) {
            faults.push(Fault::new(zero.place, "port: cannot be 0"));
        }
        let one = DependsOn { service: service.value.0.clone(), port: port.map(|port| port.value) };
        if all.contains(&one) {
            faults.push(Fault::new(item.place, format!("dependsOn: {one} stands there twice")));
        }
        all.push(one);
    }
    all
}
