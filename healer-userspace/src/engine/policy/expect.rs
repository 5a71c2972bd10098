//! Desired state, and the questions that show whether it holds.

use core::{fmt, time::Duration};

use super::{Port, depends::DependsOn};
use crate::signal::work::Asked;

/// Desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// The policy's own word, if it has one.
    pub running: Option<bool>,
    pub listen: Vec<Port>,
    pub probe: Option<Probe>,
    pub depends_on: Vec<DependsOn>,
}

impl Expect {
    /// All that a healthy workload of this policy is asked.
    pub fn questions(&self) -> impl Iterator<Item = Probe> {
        Asked::ALL.into_iter().filter_map(move |asked| self.question(asked))
    }

    pub fn question(&self, asked: Asked) -> Option<Probe> {
        match asked {
            Asked::Probe => self.probe.clone(),
            Asked::Listen => self.listens(),
        }
    }

    /// `listen` as a question, on the terms of the policy's own one if it has one.
    fn listens(&self) -> Option<Probe> {
        let ask = ProbeAsk::Listen { ports: self.listen.clone() };
        let terms = match &self.probe {
            Some(own) => Probe { ask, ..own.clone() },
            None => Probe::of(ask),
        };
        let period = terms.period.max(Probe::LISTEN_PERIOD_MIN);
        (!self.listen.is_empty()).then_some(Probe { period, ..terms })
    }
}

/// A question that a healthy workload answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub ask: ProbeAsk,
    /// From one question to the next.
    pub period: Duration,
    pub timeout: Duration,
    /// So many in a row are a failure.
    pub failures: u32,
    /// From the start of the process, or its last exec: until its first success nothing counts so long.
    pub start_grace: Duration,
}

impl Probe {
    pub const PERIOD: Duration = Duration::from_secs(10);
    pub const TIMEOUT: Duration = Duration::from_secs(2);
    pub const FAILURES: u32 = 3;
    pub const START_GRACE: Duration = Duration::from_secs(60);
    /// Tables of the kernel are read for it.
    const LISTEN_PERIOD_MIN: Duration = Duration::from_secs(5);

    /// Where the policy says no more.
    fn of(ask: ProbeAsk) -> Self {
        Self {
            ask,
            period: Self::PERIOD,
            timeout: Self::TIMEOUT,
            failures: Self::FAILURES,
            start_grace: Self::START_GRACE,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAsk {
    /// GET over HTTP/1.1 to where it listens, in the workload's network namespace; well is a status from 200 to 399.
    Http { port: u16, path: String },
    /// A connection is accepted by the kernel of the workload's network namespace.
    Tcp { port: u16 },
    /// Program and arguments, no shell; well is status 0.
    Exec { command: Vec<String> },
    /// Not asked again: the kubelet's own probe says whether the container is ready.
    Kubelet,
    /// `expect.listen`: its processes hold these ports.
    Listen { ports: Vec<Port> },
}

impl ProbeAsk {
    pub fn asked(&self) -> Asked {
        match self {
            Self::Http { .. } | Self::Tcp { .. } | Self::Exec { .. } | Self::Kubelet => Asked::Probe,
            Self::Listen { .. } => Asked::Listen,
        }
    }
}

impl fmt::Display for ProbeAsk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { port, path } => write!(out, "http GET :{port}{path}"),
            Self::Tcp { port } => write!(out, "tcp :{port}"),
            Self::Exec { command } => write!(out, "exec {}", command.first().map_or("", String::as_str)),
            Self::Kubelet => out.write_str("the kubelet's probe"),
            Self::Listen { ports } => write!(out, "listens on {}", Port::list(ports)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Protocol, *};

    fn http() -> Expect {
        Expect { listen: vec![Port { number: 8080, protocol: Protocol::Tcp }], ..Expect::default() }
    }

    #[test]
    fn ports_are_asked_for_without_a_probe_of_the_policys_own() {
        assert_eq!(Expect::default().questions().count(), 0);
        let asked = http().question(Asked::Listen).expect("it names a port");
        assert_eq!(asked.ask.to_string(), "listens on 8080/tcp");
        assert_eq!((asked.failures, asked.start_grace), (3, Duration::from_secs(60)));
        assert_eq!(http().questions().collect::<Vec<_>>(), [asked]);
    }

    #[test]
    fn ports_are_asked_for_on_the_terms_of_the_policys_probe_and_not_each_second() {
        let (second, grace) = (Duration::from_secs(1), Duration::from_secs(9));
        let own = Probe { period: second, failures: 1, start_grace: grace, ..Probe::of(ProbeAsk::Kubelet) };
        let expect = Expect { probe: Some(own.clone()), ..http() };
        let asked: Vec<Probe> = expect.questions().collect();
        assert_eq!(asked[0], own);
        assert_eq!((asked[1].failures, asked[1].start_grace), (1, grace));
        assert_eq!(asked[1].period, Probe::LISTEN_PERIOD_MIN);
    }
}
