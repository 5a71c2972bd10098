//! HTTP to verbs: get, create, patch, delete, and the subresources eviction and status.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc::Sender},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
    serve::Listener,
};
use healer_userspace::clock;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_rustls::TlsAcceptor;

use super::{
    Refusal,
    apply::merge,
    store::{Asked, Store},
    tls::TlsListener,
    valid::wrong_taints,
    watch::{list, watch},
};

type Shared = Arc<Mutex<Store>>;

/// At this address, until it is stopped; says where it listens. Without an acceptor: plain HTTP.
pub(super) fn run(
    address: SocketAddr,
    store: Shared,
    acceptor: Option<TlsAcceptor>,
    tell: &Sender<SocketAddr>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("an event loop").block_on(async {
        let tcp = TcpListener::bind(address).await.expect("a port");
        tell.send(tcp.local_addr().expect("its port")).expect("the test waits");
        match acceptor {
            None => serve_until(tcp, store, stopped).await,
            Some(acceptor) => serve_until(TlsListener { tcp, acceptor }, store, stopped).await,
        }
    });
}

async fn serve_until<L>(listener: L, store: Shared, stopped: oneshot::Receiver<()>)
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    tokio::select! {
        _ = axum::serve(listener, router(store)).into_future() => {}
        _ = stopped => {}
    }
}

fn router(store: Shared) -> Router {
    let serve = move |State(store): State<Shared>,
                      method: Method,
                      uri: Uri,
                      headers: HeaderMap,
                      body: Bytes| async move {
        let hangs = store.lock().expect("no panic").hangs;
        if hangs {
            std::future::pending::<()>().await;
        }
        let knows = store.lock().expect("no panic").knows(headers.get("authorization"));
        answer(&store, knows, &method, &uri, &headers, &body)
    };
    Router::new().fallback(serve).with_state(store)
}

struct Question<'a> {
    verb: &'static str,
    group: &'a str,
    /// Of the object, without its subresource.
    path: String,
    resource: String,
    below: &'a str,
    query: &'a str,
    kind: &'a str,
    body: Value,
}

fn answer(
    shared: &Shared,
    knows: bool,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let Some(question) = question(method, uri, headers, body) else {
        return status(StatusCode::NOT_FOUND, "the server could not find the requested resource");
    };
    let mut store = shared.lock().expect("no panic while it was held");
    let granted = store.granted.has(question.verb, question.group, &question.resource);
    let answer = if !knows {
        status(StatusCode::UNAUTHORIZED, "Unauthorized")
    } else if let Some(refusal) = overloaded(&mut store, &question) {
        refusal
    } else if granted && question.verb == "watch" {
        watch(shared, &store, &question.path, question.query)
    } else if granted {
        serve(&mut store, &question)
    } else {
        let words = format!("cannot {} resource {:?}", question.verb, question.resource);
        status(StatusCode::FORBIDDEN, &words)
    };
    store.asked.push(Asked {
        verb: question.verb.to_owned(),
        resource: question.resource.clone(),
        path: question.path.clone(),
        code: answer.status().as_u16(),
        at: clock::boot(),
    });
    answer
}

/// Too many are refused before the API is asked, and in plain text (tooManyRequests of the server's filters).
fn overloaded(store: &mut Store, question: &Question<'_>) -> Option<Response> {
    let key = (question.verb.to_owned(), question.resource.clone());
    let (left, seconds) = store.overloads.get_mut(&key)?;
    *left = left.checked_sub(1)?;
    let Some(seconds) = *seconds else {
        let is_last = *left == 0;
        let code = if is_last { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::SERVICE_UNAVAILABLE };
        return Some(status(code, "etcdserver: request timed out"));
    };
    let words = "Too many requests, please try again later.\n";
    let mut answer = (StatusCode::TOO_MANY_REQUESTS, words).into_response();
    answer.headers_mut().insert("retry-after", seconds.into());
    Some(answer)
}

/// `/api/v1/namespaces/NS/pods/NAME/SUB`, `/apis/GROUP/VERSION/nodes/NAME`.
fn question<'a>(method: &Method, uri: &'a Uri, headers: &'a HeaderMap, body: &Bytes) -> Option<Question<'a>> {
    let path = uri.path();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _version, rest @ ..] => (*group, rest),
        _other => return None,
    };
    let inside = if let ["namespaces", _, rest @ ..] = rest { rest } else { rest };
    let (resource, below) = match inside {
        [resource] | [resource, _] => ((*resource).to_owned(), ""),
        [resource, _, below] => (format!("{resource}/{below}"), *below),
        _other => return None,
    };
    let verb = match method.as_str() {
        "POST" => "create",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _get if uri.query().is_some_and(|query| query.contains("watch=true")) => "watch",
        _get if inside.len() == 1 => "list",
        _get => "get",
    };
    let path = path.strip_suffix(below).unwrap_or(path).trim_end_matches('/').to_owned();
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let body = serde_json::from_slice(body).unwrap_or_default();
    Some(Question { verb, group, path, resource, below, query: uri.query().unwrap_or_default(), kind, body })
}

fn serve(store: &mut Store, question: &Question<'_>) -> Response {
    if question.verb == "list" {
        return list(store, &question.path, question.query);
    }
    let Some(object) = store.get(&question.path).or_else(|| (question.verb == "create").then(Value::default))
    else {
        return status(StatusCode::NOT_FOUND, "not found");
    };
    match (question.verb, question.below) {
        ("get", "") => axum::Json(object).into_response(),
        ("create", "eviction") if object.is_null() => status(StatusCode::NOT_FOUND, "not found"),
        ("create", "eviction") => evict(store, question, object),
        ("create", "") => create(store, question),
        ("patch", "" | "status") => patch(store, question, object),
        ("delete", "") => delete(store, &question.path, &question.body["preconditions"]["uid"], object),
        _other => status(StatusCode::METHOD_NOT_ALLOWED, "the server does not allow this method"),
    }
}

fn create(store: &mut Store, question: &Question<'_>) -> Response {
    let name = question.body["metadata"]["name"].as_str().unwrap_or_default();
    let path = format!("{}/{name}", question.path);
    if question.resource == "events"
        && let Some(wrong) = wrong_with(&question.body)
    {
        return status(StatusCode::UNPROCESSABLE_ENTITY, &format!("Event {name:?} is invalid: {wrong}"));
    }
    if store.get(&path).is_some() {
        return status(StatusCode::CONFLICT, "already exists");
    }
    let made = store.put(&path, question.body.clone(), "creator");
    (StatusCode::CREATED, axum::Json(made)).into_response()
}

/// As events.k8s.io/v1 validates (pkg/apis/core/validation/events.go).
fn wrong_with(event: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let time = text(&event["eventTime"]);
    if !(time.len() == "2026-01-01T00:00:00.000000Z".len() && time.ends_with('Z')) {
        return Some(format!("eventTime: {time:?}"));
    }
    for (key, limit) in [("reportingInstance", 128), ("action", 128), ("reason", 128), ("note", 1024)] {
        let value = text(&event[key]);
        if (value.is_empty() && key != "note") || limit < value.len() {
            return Some(format!("{key}: {} bytes", value.len()));
        }
    }
    let (own, about) = (text(&event["metadata"]["namespace"]), text(&event["regarding"]["namespace"]));
    let fits =
        if about.is_empty() { matches!(own.as_str(), "default" | "kube-system") } else { own == about };
    let is_known = matches!(event["type"].as_str(), Some("Normal" | "Warning"));
    let is_told = event["reportingController"].is_string();
    (!(fits && is_known && is_told))
        .then(|| "involvedObject.namespace, type or reportingController".to_owned())
}

const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

fn evict(store: &mut Store, question: &Question<'_>, mut pod: Value) -> Response {
    const BUDGET: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
    let uid = &question.body["deleteOptions"]["preconditions"]["uid"];
    let refusal = store.refusals.pop_front();
    if matches!(refusal, Some(Refusal::Replaced | Refusal::ReplacedBehindBudget)) {
        pod["metadata"]["uid"] = json!("of-the-next");
        pod = store.put(&question.path, pod, "somebody");
    }
    match refusal {
        Some(Refusal::TooMany(_) | Refusal::ReplacedBehindBudget) => {
            let cause = json!({"reason": "DisruptionBudget", "message": "The disruption budget web needs 1 healthy pods"});
            let body = json!({"kind": "Status", "status": "Failure", "message": BUDGET, "code": 429,
                "details": {"causes": [cause]}});
            let mut answer = (StatusCode::TOO_MANY_REQUESTS, axum::Json(body)).into_response();
            if let Some(Refusal::TooMany(Some(seconds))) = refusal {
                answer.headers_mut().insert("retry-after", seconds.into());
            }
            answer
        }
        Some(Refusal::Trouble) => status(StatusCode::INTERNAL_SERVER_ERROR, "etcdserver: request timed out"),
        Some(Refusal::Conflict) => status(StatusCode::CONFLICT, MODIFIED),
        Some(Refusal::Replaced) | None => delete(store, &question.path, uid, pod),
    }
}

/// As the kubelet ends it, it is gone: see [`super::ApiServer::get`].
fn delete(store: &mut Store, path: &str, uid: &Value, mut pod: Value) -> Response {
    if *uid != pod["metadata"]["uid"] {
        return status(StatusCode::CONFLICT, "the UID in the precondition does not match the UID in record");
    }
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    store.put(path, pod, "evictor");
    (StatusCode::CREATED, axum::Json(json!({"kind": "Status", "status": "Success", "code": 201})))
        .into_response()
}

fn patch(store: &mut Store, question: &Question<'_>, mut object: Value) -> Response {
    let manager = question.query.split('&').find_map(|pair| pair.strip_prefix("fieldManager="));
    let Some(manager) = manager.map(str::to_owned) else {
        return status(StatusCode::BAD_REQUEST, "fieldManager is required");
    };
    if question.kind == "application/apply-patch+yaml" {
        let mut applied = question.body.clone();
        // A subresource takes its own part and nothing else.
        if question.below == "status" {
            applied = json!({"status": question.body["status"]});
        }
        let is_forced = question.query.split('&').any(|pair| pair == "force=true");
        return match store.apply(&question.path, &manager, &applied, is_forced) {
            Ok(object) => axum::Json(object).into_response(),
            Err(conflict) => status(StatusCode::CONFLICT, &conflict),
        };
    }
    if 0 < store.disturbances {
        store.disturbances -= 1;
        let disturbed = object.clone();
        object = store.put(&question.path, disturbed, "somebody");
    }
    let asked = &question.body["metadata"]["resourceVersion"];
    if !asked.is_null() && *asked != object["metadata"]["resourceVersion"] {
        return status(StatusCode::CONFLICT, MODIFIED);
    }
    merge(&mut object, &question.body);
    if question.resource == "nodes"
        && let Some(wrong) = wrong_taints(&object)
    {
        let words = format!("Node {} is invalid: {wrong}", object["metadata"]["name"]);
        return status(StatusCode::UNPROCESSABLE_ENTITY, &words);
    }
    axum::Json(store.put(&question.path, object, &manager)).into_response()
}

fn status(code: StatusCode, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code.as_u16(),
    });
    (code, axum::Json(body)).into_response()
}
