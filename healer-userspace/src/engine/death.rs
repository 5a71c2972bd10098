//! An end as `healer why` tells it: also one that is nobody's incident.

use super::{
    certificate::{Certificate, called},
    diagnosis::Evidence,
    memory::Memory,
    time::BootTime,
};
use crate::identity::process::{Process, ProcessId, WorkloadKey};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    pub at: BootTime,
    pub id: ProcessId,
    pub comm: String,
    pub workload: WorkloadKey,
    pub by_signal: bool,
    /// `sleep[17], started by bash[4], killed by SIGKILL from bash[4] (uid 0) after 3.2s`
    pub sentence: String,
    /// What came before the end itself.
    pub evidence: Vec<Evidence>,
}

impl Death {
    /// None of a program that nobody named and that did its work.
    pub(super) fn of(
        certificate: &Certificate,
        memory: &Memory,
        process: &Process,
        at: BootTime,
    ) -> Option<Self> {
        (certificate.exit.is_abnormal() || process.main).then(|| Self {
            at,
            id: process.id(),
            comm: process.comm.clone(),
            workload: process.workload.clone(),
            by_signal: certificate.exit.signal.is_some(),
            sentence: sentence(certificate, process),
            evidence: certificate.causes(memory, process),
        })
    }
}

fn sentence(certificate: &Certificate, process: &Process) -> String {
    let mut says = called(process);
    says.push(' ');
    certificate.tell(&mut says);
    says
}
