//! Paths to policies in force: read, told apart by kind, checked one by one, then against each other.

mod cluster;

use core::fmt::Write as _;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    agent::{self, Agent},
    check::{self, Findings},
    files,
    problem::{Fault, Place, Problem, Problems, suggestion},
    schema::Kind,
    source::{self, Node},
};
use crate::engine::{
    class::Class,
    policy::{Match, Mode, Policy, PolicySet, Rung},
};

pub use self::cluster::{FromCluster, Verdict};

/// Used when no policy is named: shadow, touches nothing.
pub const DEFAULT_POLICY: &str = include_str!("../../policies/default.yaml");
const DEFAULT_NAME: &str = "embedded default policy";

/// What the command line names.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files and directories of policies; none = the embedded default.
    pub policies: Vec<PathBuf>,
    /// The administrator's file.
    pub config: Option<PathBuf>,
    /// `--mode`; the stricter of it and the administrator's holds.
    pub mode_cap: Option<Mode>,
}

#[derive(Clone, Debug)]
pub struct Loaded {
    pub policies: PolicySet,
    pub agent: Agent,
    /// All files read. Empty for the embedded default.
    pub files: Vec<PathBuf>,
    /// What they looked like just before.
    pub look: files::Look,
    /// Nothing that stops a load.
    pub warnings: Vec<Problem>,
    /// Rungs that not every machine can do, in a frame for the problem.
    pub demanding: Vec<(Problem, Rung)>,
    /// What only Kubernetes' API server can tell, as a warning for where there is none.
    pub asking: Vec<Problem>,
    /// Of the policies that Kubernetes keeps.
    pub verdicts: Vec<Verdict>,
}

impl Loaded {
    /// What `lacks` says of the rungs, where they stand.
    pub fn cannot(&self, lacks: &dyn Fn(&Rung) -> Option<String>) -> Vec<Problem> {
        let problem = |(frame, rung): &(Problem, Rung)| {
            let message = format!("{}: not on this machine: {}", rung.action.name(), lacks(rung)?);
            Some(Problem { message, ..frame.clone() })
        };
        self.demanding.iter().filter_map(problem).collect()
    }
}

/// Reads everything that `sources` names. `supported` says which classes have a detector.
///
/// # Errors
/// All problems of all files; nothing is half loaded.
pub fn load(sources: &Sources, supported: &dyn Fn(Class) -> bool) -> Result<Loaded, Problems> {
    load_with(sources, &[], supported)
}

/// The same, and what of the cluster's policies can be had beside that.
///
/// # Errors
/// All problems of all files; those of the cluster's policies are in its verdicts.
pub fn load_with(
    sources: &Sources,
    cluster: &[FromCluster],
    supported: &dyn Fn(Class) -> bool,
) -> Result<Loaded, Problems> {
    let look = files::Look::at(sources);
    let mut loading = Loading::new(supported);
    if sources.policies.is_empty() {
        loading.text(Path::new(DEFAULT_NAME), DEFAULT_POLICY, &[Kind::HealPolicy]);
        loading.warnings.clear(); // the user did not write it
    }
    loading.paths(&sources.policies, &[Kind::HealPolicy]);
    loading.paths(sources.config.as_slice(), &[Kind::AgentConfig]);
    let verdicts = loading.cluster(cluster);
    Ok(Loaded { look, verdicts, ..loading.finish(sources.mode_cap)? })
}

/// Checks files of either kind, as `healer policy check` does. Nothing is added to them.
///
/// # Errors
/// All problems of all files.
pub fn check(paths: &[PathBuf], supported: &dyn Fn(Class) -> bool) -> Result<Loaded, Problems> {
    let mut loading = Loading::new(supported);
    loading.paths(paths, &Kind::ALL);
    loading.finish(None)
}

/// Checks one text of either kind; `name` stands for the file in problems. No I/O: what fuzzing drives.
///
/// # Errors
/// All problems of the text.
pub fn check_text(name: &Path, text: &str, supported: &dyn Fn(Class) -> bool) -> Result<Loaded, Problems> {
    let mut loading = Loading::new(supported);
    loading.text(name, text, &Kind::ALL);
    loading.finish(None)
}

struct Loading<'a> {
    supported: &'a dyn Fn(Class) -> bool,
    policies: Vec<Placed<Policy>>,
    agents: Vec<Placed<Agent>>,
    files: Vec<PathBuf>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    demanding: Vec<(Problem, Rung)>,
    digest: Sha256,
}

/// A checked document, where it came from, and a problem's frame for it.
struct Placed<T> {
    value: T,
    at: Problem,
}

fn asks_for_pause(policy: &Placed<Policy>) -> Option<Problem> {
    let annotation = policy.value.safety.pause.as_ref()?;
    let message = format!(
        "safety.pause: there is no Kubernetes to ask (neither a service account nor a kubeconfig): {annotation} \
         holds healer back only if the pod was made with it; `healer pause` works everywhere"
    );
    Some(Problem { message, ..policy.at.clone() })
}

impl<'a> Loading<'a> {
    fn new(supported: &'a dyn Fn(Class) -> bool) -> Self {
        Self {
            supported,
            policies: Vec::new(),
            agents: Vec::new(),
            files: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            demanding: Vec::new(),
            digest: Sha256::new(),
        }
    }

    fn paths(&mut self, paths: &[PathBuf], kinds: &[Kind]) {
        let files = match files::expand(paths) {
            Ok(files) => files,
            Err((path, error)) => return self.unreadable(path, &error),
        };
        for file in files {
            match files::text(&file) {
                Ok(text) => self.text(&file, &text, kinds),
                Err(error) => self.unreadable(file.clone(), &error),
            }
            self.files.push(file);
        }
    }

    fn unreadable(&mut self, path: PathBuf, error: &io::Error) {
        let fault = Fault::new(Place::default(), format!("cannot be read: {error}"));
        self.problems.push(fault.in_file(path, ""));
    }

    fn digest_of(&mut self, text: &str) {
        self.digest.update(text);
    }

    fn text(&mut self, file: &Path, text: &str, kinds: &[Kind]) {
        self.digest_of(text);
        let mut findings = Findings {
            faults: Vec::new(),
            warnings: Vec::new(),
            demanding: Vec::new(),
            supported: self.supported,
        };
        match source::documents(text) {
            Ok(nodes) if nodes.is_empty() => {
                findings.faults.push(Fault::new(Place::default(), "holds no document"));
            }
            Ok(nodes) => {
                for node in nodes {
                    self.document(file, text, &node, kinds, &mut findings);
                }
            }
            Err(fault) => findings.faults.push(fault),
        }
        findings.faults.sort_by_key(|fault| fault.place);
        let problems = findings.faults.into_iter().map(|fault| fault.in_file(file, text));
        self.problems.extend(problems);
        let warnings = findings.warnings.into_iter().map(|fault| fault.in_file(file, text));
        self.warnings.extend(warnings);
        let frame = |place| Fault::new(place, "").in_file(file, text);
        self.demanding.extend(findings.demanding.into_iter().map(|(place, rung)| (frame(place), rung)));
    }

    fn document(
        &mut self,
        file: &Path,
        text: &str,
        node: &Node,
        kinds: &[Kind],
        findings: &mut Findings<'_>,
    ) {
        let frame = |place| Fault::new(place, "").in_file(file, text);
        match kind(node) {
            Err(message) => findings.faults.push(Fault::new(node.place, message)),
            Ok(kind) if !kinds.contains(&kind) => {
                findings.faults.push(Fault::new(node.place, misplaced(kind)));
            }
            Ok(Kind::HealPolicy) => {
                let read = check::policy(node, findings);
                self.policies.extend(read.map(|(value, place)| Placed { value, at: frame(place) }));
            }
            Ok(Kind::AgentConfig) => {
                let read = agent::read(node, &mut findings.faults);
                self.agents.extend(read.map(|value| Placed { value, at: frame(node.place) }));
            }
        }
    }

    fn finish(mut self, mode_cap: Option<Mode>) -> Result<Loaded, Problems> {
        self.compare_policies();
        for second in self.agents.iter().skip(1) {
            let message = "a second AgentConfig: a node has one".to_owned();
            self.problems.push(Problem { message, ..second.at.clone() });
        }
        if !self.problems.is_empty() {
            return Err(Problems(self.problems));
        }
        let agent = self.agents.pop().map(|placed| placed.value).unwrap_or_default();
        let asking = self.policies.iter().filter_map(asks_for_pause).collect();
        let policies = PolicySet {
            policies: self.policies.into_iter().map(|placed| placed.value).collect(),
            mode_cap: [agent.mode, mode_cap].into_iter().flatten().min(),
            node_budget: Some(agent.node_budget),
            node_breaker: Some(agent.node_breaker),
            storm: Some(agent.storm),
            maintenance: agent.maintenance.clone(),
            protect: agent.protect.clone(),
            version: version(self.digest),
        };
        Ok(Loaded {
            policies,
            agent,
            files: self.files,
            look: files::Look::default(),
            warnings: self.warnings,
            demanding: self.demanding,
            asking,
            verdicts: Vec::new(),
        })
    }

    /// Names are unique, and so are matches: of two policies for the same processes neither could own them.
    fn compare_policies(&mut self) {
        let mut names: BTreeMap<&str, &Problem> = BTreeMap::new();
        let mut owners: BTreeMap<String, &Placed<Policy>> = BTreeMap::new();
        for later in self.policies.iter().filter(|later| !later.value.name.is_empty()) {
            let name = later.value.name.as_str();
            let message = if let Some(first) = names.get(name) {
                format!("a policy named {name:?} exists already ({})", position(first))
            } else if let Some(first) = owners.get(&who(&later.value)) {
                let (other, at) = (&first.value.name, position(&first.at));
                format!("policies {other:?} and {name:?} have the same match: neither could own it ({at})")
            } else {
                names.insert(name, &later.at);
                owners.insert(who(&later.value), later);
                continue;
            };
            self.problems.push(Problem { message, ..later.at.clone() });
        }
    }
}

fn position(at: &Problem) -> String {
    format!("{}:{}", at.file.display(), at.place.line)
}

fn kind(node: &Node) -> Result<Kind, String> {
    let Some(word) = node.text("kind") else {
        return Err("a document needs `kind: HealPolicy` or `kind: AgentConfig`".to_owned());
    };
    Kind::ALL.into_iter().find(|kind| kind.name() == word).ok_or_else(|| {
        let hint = suggestion(word, Kind::ALL.map(Kind::name));
        format!("unknown kind {word:?}{hint}")
    })
}

fn misplaced(kind: Kind) -> &'static str {
    match kind {
        Kind::HealPolicy => "a HealPolicy belongs to --policy, not to --config",
        Kind::AgentConfig => "an AgentConfig belongs to --config: the owner of a workload must not set it",
    }
}

/// Equal for two policies that match the same, in whatever order it is written.
fn who(policy: &Policy) -> String {
    let text = |matches: &Match| format!("{:?}", sorted(matches));
    let mut avoid: Vec<String> = policy.avoid.iter().map(text).collect();
    avoid.sort();
    format!("{} but {avoid:?}", text(&policy.matches))
}

fn sorted(matches: &Match) -> Match {
    let mut sorted = matches.clone();
    let Match {
        supervise,
        namespaces,
        pod_labels,
        containers,
        container_labels,
        units,
        exes,
        cgroups,
        comms,
    } = &mut sorted;
    for names in [supervise, namespaces, containers, units, exes, cgroups, comms] {
        names.sort();
        names.dedup();
    }
    for labels in [pod_labels, container_labels] {
        labels.sort();
    }
    sorted
}

/// The same files give the same version, on every node.
fn version(digest: Sha256) -> String {
    digest.finalize().iter().take(6).fold(String::new(), |mut text, byte| {
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
        text
    })
}
