//! Events on the pod, or on the node for whatever is in no pod: what `kubectl describe` shows.

use core::time::Duration;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    api::{Api, Send},
    rights::TELL,
};
use crate::{
    clock,
    engine::{
        command::{ActionOutcome, IncidentId},
        report::{Report, ReportFact},
    },
    identity::process::Pod,
    report::record::ActName,
    text::printable,
};

/// On their way: more are dropped.
const QUEUE: usize = 64;
/// Incidents whose pod is remembered; the oldest goes.
const REMEMBERED: usize = 1024;
/// A burst, and then one in this time: the server and etcd are everybody's.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(5);
/// After the server did not take one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const TRIES: u32 = 4;
/// The API's own limits (events.k8s.io/v1), in bytes: of `note` 1 KiB, of `reportingInstance` 128.
const NOTE_MAX: usize = 1024;
const INSTANCE_MAX: usize = 128;

/// The end at which facts are put in; never blocks.
pub struct Events {
    queue: mpsc::Sender<Event>,
    pods: BTreeMap<IncidentId, Pod>,
}

struct Event {
    pod: Option<Pod>,
    is_warning: bool,
    reason: String,
    action: &'static str,
    note: String,
    time: String,
}

impl Events {
    pub(super) fn start(api: Api) -> Self {
        let (queue, events) = mpsc::channel(QUEUE);
        tokio::spawn(run(api, events));
        Self { queue, pods: BTreeMap::new() }
    }

    /// `act`: of a result, what it is the result of.
    pub fn tell(&mut self, report: &Report, act: Option<&ActName>) {
        let Some(incident) = report.incident else { return };
        let (is_warning, reason, action, note) = match &report.fact {
            ReportFact::Diagnosis(diagnosis) => {
                self.remember(incident, diagnosis.target.place.pod.clone());
                return;
            }
            ReportFact::Closed(_) => {
                self.pods.remove(&incident);
                return;
            }
            ReportFact::Notify { class, sentence, reason } => {
                (true, camel(class.name()), "Notify", format!("{sentence} ({reason})"))
            }
            ReportFact::Result(result) => {
                let Some(act) = act.filter(|act| act.mode == "enforce") else { return };
                let is_done = matches!(result.outcome, ActionOutcome::Done { .. });
                let end = if is_done { "Done" } else { "NotDone" };
                (!is_done, format!("{}{end}", camel(act.action)), "Act", result.outcome.says().to_owned())
            }
            ReportFact::Plan(_)
            | ReportFact::Gate(_)
            | ReportFact::Intent(_)
            | ReportFact::Verification(_)
            | ReportFact::Score { .. }
            | ReportFact::Undone(_)
            | ReportFact::Agent { .. } => return,
        };
        let workload = report.workload.as_ref().map_or("", |workload| &workload.0);
        let note = start_of(&printable(&format!("{incident} {workload}: {note}")), NOTE_MAX).to_owned();
        let pod = self.pods.get(&incident).cloned();
        let time = format!("{:.6}", clock::wall_of(report.at));
        // Full: the log and the audit have it.
        self.queue.try_send(Event { pod, is_warning, reason, action, note, time }).ok();
    }

    fn remember(&mut self, incident: IncidentId, pod: Option<Pod>) {
        let Some(pod) = pod.filter(has_name) else { return };
        self.pods.insert(incident, pod);
        while REMEMBERED < self.pods.len() {
            self.pods.pop_first();
        }
    }
}

/// Of a pod that no runtime has named the cgroup tells the uid alone: what happens there is told of the node.
fn has_name(pod: &Pod) -> bool {
    !pod.namespace.is_empty() && !pod.name.is_empty()
}

async fn run(api: Api, mut events: mpsc::Receiver<Event>) {
    let mut left = BURST;
    let mut refilled = clock::boot();
    let mut is_heard = true;
    while let Some(event) = events.recv().await {
        let refills = clock::boot().since(refilled).as_secs() / REFILL.as_secs();
        if 0 < refills {
            left = left.saturating_add(u32::try_from(refills).unwrap_or(BURST)).min(BURST);
            refilled = clock::boot();
        }
        if left == 0 {
            continue;
        }
        left -= 1;
        match told(&api, &event).await {
            Ok(()) => is_heard = true,
            Err(error) if is_heard => {
                is_heard = false;
                tracing::warn!("Kubernetes does not take healer's Events: {error}; log and audit have them");
            }
            Err(_) => {}
        }
    }
}

async fn told(api: &Api, event: &Event) -> Result<(), String> {
    let (namespace, body) = body(api.node(), event);
    let mut pause = FIRST_PAUSE;
    let mut last = String::new();
    for _ in 0..TRIES {
        let wait = match api.ask(&TELL, &TELL.path(&namespace, ""), Send::Json(&body)).await {
            // 409: it was taken, and its answer lost.
            Ok(answer) if answer.is_ok() || answer.code == 409 => return Ok(()),
            Ok(answer) if answer.is_for_later() => {
                last = answer.words();
                answer.retry_after
            }
            Ok(answer) => return Err(answer.words()),
            Err(error) => {
                last = error;
                None
            }
        };
        tokio::time::sleep(wait.unwrap_or(pause).min(LONGEST_PAUSE)).await;
        pause *= 2;
    }
    Err(last)
}

fn body(node: &str, event: &Event) -> (String, Value) {
    let (namespace, regarding) = match &event.pod {
        Some(Pod { namespace, name, uid, .. }) => {
            let pod =
                json!({"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid});
            (namespace.clone(), pod)
        }
        // A node's uid is its name here, as the kubelet has it: `kubectl describe node` asks for that.
        None => {
            let node = json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": node});
            ("default".to_owned(), node)
        }
    };
    // A name's part may not end with these (RFC 1123).
    let about = start_of(regarding["name"].as_str().unwrap_or("node"), 200).trim_end_matches(['-', '.']);
    let body = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": namespace, "name": format!("{about}.{:x}", clock::boot().0)},
        "eventTime": event.time,
        "reportingController": "healer.dev/agent",
        "reportingInstance": start_of(node, INSTANCE_MAX),
        "type": if event.is_warning { "Warning" } else { "Normal" },
        "reason": event.reason,
        "action": event.action,
        "regarding": regarding,
        "note": event.note,
    });
    (namespace, body)
}

/// As many whole characters as fit into so many bytes.
fn start_of(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// `memory_leak` → `MemoryLeak`
fn camel(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    name.split('_').map(capital).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(pod: Option<Pod>) -> Event {
        Event {
            pod,
            is_warning: true,
            reason: camel("memory_leak"),
            action: "Notify",
            note: "i1 it leaks".into(),
            time: "2026-01-01T00:00:00.000000Z".into(),
        }
    }

    #[test]
    fn what_is_in_no_pod_is_told_of_the_node() {
        let (namespace, body) = body("n1", &event(None));
        assert_eq!((namespace.as_str(), &body["regarding"]["kind"]), ("default", &json!("Node")));
        assert_eq!((&body["reason"], &body["type"]), (&json!("MemoryLeak"), &json!("Warning")));
    }

    #[test]
    fn what_is_too_long_for_the_api_is_cut_to_its_bytes() {
        assert_eq!(start_of("False → True", 8), "False ");
        assert_eq!(start_of("False → True", 9), "False →");
        assert_eq!(start_of("short", 9), "short");
        let pod = Pod { name: format!("{}-x", "w".repeat(199)), ..Pod::default() };
        let (_, body) = body(&"n".repeat(200), &event(Some(pod)));
        assert!(
            body["metadata"]["name"]
                .as_str()
                .is_some_and(|name| name.starts_with(&format!("{}.", "w".repeat(199))))
        );
        assert_eq!(body["reportingInstance"].as_str().map(str::len), Some(INSTANCE_MAX));
    }

    #[test]
    fn who_has_no_name_is_told_of_the_node() {
        let mut events = Events { queue: mpsc::channel(1).0, pods: BTreeMap::new() };
        events.remember(IncidentId(1), Some(Pod { uid: "u".into(), ..Pod::default() }));
        events.remember(
            IncidentId(2),
            Some(Pod { namespace: "prod".into(), name: "web-0".into(), ..Pod::default() }),
        );
        assert_eq!(events.pods.keys().collect::<Vec<_>>(), [&IncidentId(2)]);
    }

    #[test]
    fn a_pods_event_is_in_its_namespace() {
        let pod = Pod { namespace: "prod".into(), name: "web-0".into(), uid: "u".into(), ..Pod::default() };
        let (namespace, body) = body("n1", &event(Some(pod)));
        assert_eq!((namespace.as_str(), &body["regarding"]["uid"]), ("prod", &json!("u")));
        assert!(body["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("web-0.")));
    }
}
