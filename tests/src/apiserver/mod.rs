//! An API server of the tests' own: the few resources that healer asks for, under exactly the roles of
//! `deploy/kubernetes`. What is not granted there is a 403, as it would be in a cluster.

mod apply;
mod kubeconfig;
mod look;
mod roles;
mod serve;
mod store;
mod tls;
mod valid;
mod watch;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use self::store::Store;
pub use self::{
    kubeconfig::{agent_by, write_kubeconfig},
    roles::Granted,
    store::Asked,
    tls::Authority,
};

/// The bearer token that it takes at first.
const TOKEN: &str = "a-token-of-the-tests";

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

const POLICIES: &str = "/apis/healer.dev/v1alpha1/healpolicies";

/// How it answers an eviction, in turn; after the last: it takes it.
#[derive(Clone, Copy, Debug)]
pub enum Refusal {
    /// 429, with so many seconds in `Retry-After`.
    TooMany(Option<u32>),
    /// 500.
    Trouble,
    /// 409: another writer was faster.
    Conflict,
    /// 409: by now the pod is another one of its name.
    Replaced,
    /// 429: it is another one, and has a budget of its own.
    ReplacedBehindBudget,
}

/// How a client shows over TLS who it is.
#[derive(Clone, Copy, Debug)]
pub enum Proof {
    Token,
    /// Signed by the cluster's authority; a token is not asked for then.
    Certificate,
}

struct Tls {
    authority: Authority,
    proof: Proof,
}

/// Ends on drop.
pub struct ApiServer {
    address: SocketAddr,
    tls: Option<Tls>,
    store: Arc<Mutex<Store>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl ApiServer {
    /// Has one node; grants what the profiles' roles do. Plain HTTP, with a token.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn start(node: &str, profiles: &[&str]) -> Self {
        Self::open(ANY_PORT, node, profiles, None)
    }

    /// As `start`, where another one was: it knows nothing of what that one kept.
    ///
    /// # Panics
    /// If it cannot listen there.
    #[must_use]
    pub fn start_at(address: SocketAddr, node: &str, profiles: &[&str]) -> Self {
        Self::open(address, node, profiles, None)
    }

    /// The same as `start` over TLS, as every real one is reached.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn start_tls(node: &str, profiles: &[&str], proof: Proof) -> Self {
        Self::open(ANY_PORT, node, profiles, Some(Tls { authority: Authority::of_a_cluster(), proof }))
    }

    fn open(address: SocketAddr, node: &str, profiles: &[&str], tls: Option<Tls>) -> Self {
        let (token, acceptor) = match &tls {
            None => (Some(TOKEN), None),
            Some(tls) => match tls.proof {
                Proof::Token => (Some(TOKEN), Some(tls.authority.acceptor(false))),
                Proof::Certificate => (None, Some(tls.authority.acceptor(true))),
            },
        };
        let store = Arc::new(Mutex::new(Store::new(Granted::to(profiles), token)));
        let own = Arc::clone(&store);
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || serve::run(address, own, acceptor, &tell, stopped));
        let address = told.recv().expect("it listens");
        let server = Self { address, tls, store, stop: Some(stop), thread: Some(thread) };
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "spec": {}, "status": {
            "conditions": [{"type": "Ready", "status": "True", "message": "kubelet is posting ready status"}],
        }});
        server.put("/api/v1/nodes", node);
        server
    }

    /// From now on it takes this bearer token and no other.
    pub fn take_token(&self, token: &str) {
        self.store().token = Some(token.to_owned());
    }

    /// With all its connections; gives where it was.
    #[must_use]
    pub fn die(self) -> SocketAddr {
        self.address
    }

    /// A pod, whatever the owner's kind is.
    pub fn pod(&self, name: &str, uid: &str, node: &str, owner: &str) {
        let owner = json!({"kind": owner, "name": "o", "uid": "o", "controller": true});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": node}, "metadata": {
            "namespace": "prod", "name": name, "uid": uid, "ownerReferences": [owner],
        }});
        self.put("/api/v1/namespaces/prod/pods", pod);
    }

    /// As the kubelet writes what its probe of the container `app`, by its id at containerd, has found.
    ///
    /// # Panics
    /// If there is no such pod.
    pub fn probed(&self, name: &str, container: &str, ready: bool) {
        let mut pod = self.get(&format!("/api/v1/namespaces/prod/pods/{name}")).expect("the pod is there");
        let state = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let app = json!({"name": "app", "containerID": format!("containerd://{container}"), "ready": ready,
            "started": true, "restartCount": 0, "state": state});
        pod["status"] = json!({"phase": "Running", "containerStatuses": [app]});
        self.put("/api/v1/namespaces/prod/pods", pod);
    }

    /// As `kubectl annotate pod` does; without a value it is taken away.
    ///
    /// # Panics
    /// If there is no such pod.
    pub fn annotate(&self, name: &str, key: &str, value: Option<&str>) {
        let mut pod = self.get(&format!("/api/v1/namespaces/prod/pods/{name}")).expect("the pod is there");
        pod["metadata"]["annotations"] = value.map_or(json!({}), |value| json!({key: value}));
        self.put("/api/v1/namespaces/prod/pods", pod);
    }

    /// As somebody else would write it.
    pub fn put(&self, collection: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.store().put(&format!("{collection}/{name}"), object, "somebody");
    }

    /// A HealPolicy, new or changed.
    pub fn heal(&self, name: &str, spec: Value) {
        let mut policy = self.policy(name).unwrap_or_else(
            || json!({"apiVersion": "healer.dev/v1alpha1", "kind": "HealPolicy", "metadata": {"name": name}}),
        );
        policy["spec"] = spec;
        self.put(POLICIES, policy);
    }

    #[must_use]
    pub fn policy(&self, name: &str) -> Option<Value> {
        self.get(&format!("{POLICIES}/{name}"))
    }

    pub fn delete_policy(&self, name: &str) {
        self.store().remove(&format!("{POLICIES}/{name}"));
    }

    /// Forgets what was before: who watches from there, or asks for a watch from there, is told so (410).
    pub fn compact(&self) {
        self.store().compact();
    }

    /// Ends all watches, as it does each after some minutes.
    pub fn end_watches(&self) {
        self.store().ends += 1;
    }

    #[must_use]
    pub fn get(&self, path: &str) -> Option<Value> {
        self.store().get(path)
    }

    /// All objects below a collection.
    #[must_use]
    pub fn all(&self, collection: &str) -> Vec<Value> {
        self.store().below(collection)
    }

    /// Every question so far, with its answer's status.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.store().asked.clone()
    }

    /// The statuses of the answers to those about one resource, in turn.
    #[must_use]
    pub fn answers(&self, verb: &str, resource: &str) -> Vec<u16> {
        let all = self.asked();
        let about = all.iter().filter(|asked| asked.verb == verb && asked.resource == resource);
        about.map(|asked| asked.code).collect()
    }

    pub fn refuse_evictions(&self, refusals: &[Refusal]) {
        self.store().refusals = refusals.iter().copied().collect();
    }

    /// The next patches of a node meet another writer.
    pub fn disturb(&self, times: u32) {
        self.store().disturbances = times;
    }

    /// So many of the next questions about a resource (`nodes/status`) are refused: by 429, with these seconds in
    /// `Retry-After`, or by 503 and at last 500.
    pub fn overload(&self, verb: &str, resource: &str, times: u32, seconds: Option<u32>) {
        self.store().overloads.insert((verb.to_owned(), resource.to_owned()), (times, seconds));
    }

    /// Takes connections and questions, and answers none.
    pub fn hang(&self, hangs: bool) {
        self.store().hangs = hangs;
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("no panic while it was held")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
