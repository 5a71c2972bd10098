//! No local port is left for connections to a peer.

use super::{Exhaustion, Failed, Kind};
use crate::{
    engine::{class::Class, detect::DetectorEntry},
    signal::{
        levels::{Level, Resource},
        syscall_error::SyscallError,
    },
};

pub(in crate::engine::detect) const ENTRY: DetectorEntry = DetectorEntry {
    name: "port_exhaustion",
    classes: &[Class::PortExhaustion],
    build: || Box::new(Exhaustion::<Ports>::default()),
};

struct Ports;

impl Kind for Ports {
    const CLASS: Class = Class::PortExhaustion;

    fn is_of(resource: &Resource) -> bool {
        matches!(resource, Resource::Ports { .. })
    }

    /// The look at the peer's ports comes after the failure.
    fn failed(error: &SyscallError, _fullest: Option<&Level>) -> Option<Failed> {
        let level = error.level.as_ref().filter(|_| error.errno == libc::EADDRNOTAVAIL)?;
        Some(Failed { resource: level.of.clone(), is_seen: false, level: None })
    }

    fn over() -> &'static str {
        "finds local ports again"
    }
}
