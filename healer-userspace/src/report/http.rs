//! The read-only HTTP face: metrics, health, and what the agent knows as JSON. Never an action.

mod bounded;

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::bounded::Bounded;
use super::{
    metrics::Metrics,
    openapi,
    view::{Shared, View},
    wall::ReadClock,
};

/// What the handlers need: handles only, cheap to clone.
#[derive(Clone)]
pub struct Face {
    pub shared: Shared,
    pub metrics: Arc<Metrics>,
    pub clock: ReadClock,
}

const TEXT_004: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Takes the port, so that a failure is known before the agent says `ready`.
///
/// # Errors
/// The port is taken or may not be taken: says by what, and what to do.
pub async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(listen).await;
    bound.map_err(|error| anyhow::anyhow!("cannot listen on {listen} for metrics: {}", bind_words(&error)))
}

fn bind_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrInUse {
        "another program, perhaps another healer, listens there (`ss -ltnp` shows it); \
         choose another address with --listen"
            .into()
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "no permission for this port; choose one above 1023 with --listen".into()
    } else {
        format!("{error}; choose another address with --listen")
    }
}

/// Answers until the future is dropped.
///
/// # Errors
/// The listening socket broke.
pub async fn serve(listener: TcpListener, face: Face) -> anyhow::Result<()> {
    axum::serve(Bounded::new(listener), router(face)).await.context("the HTTP listener broke")
}

pub fn router(face: Face) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/api/v1/incidents", get(incidents))
        .route("/api/v1/incidents/{id}", get(incident))
        .route("/api/v1/sensors", get(sensors))
        .route("/api/v1/policies", get(policies))
        .route("/api/v1/workloads", get(workloads))
        .route("/api/v1/dependencies", get(dependencies))
        .route("/api/v1/scores", get(scores))
        .route("/api/v1/openapi.json", get(|| async { Json(openapi::document()) }))
        .with_state(face)
}

async fn metrics(State(face): State<Face>, headers: HeaderMap) -> Response {
    if prefers_openmetrics(&headers) {
        ([(CONTENT_TYPE, OPENMETRICS)], face.metrics.openmetrics()).into_response()
    } else {
        ([(CONTENT_TYPE, TEXT_004)], face.metrics.text004()).into_response()
    }
}

async fn readyz(State(face): State<Face>) -> Response {
    let now = (face.clock)().boot;
    let complaints = face.shared.read(|view| view.readiness.complaints(&view.sensors, now));
    if complaints.is_empty() {
        "ready\n".into_response()
    } else {
        let mut body = String::from("not ready\n");
        for complaint in complaints {
            body.push_str(&format!("- {complaint}\n"));
        }
        (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
    }
}

async fn incidents(State(face): State<Face>) -> Json<Value> {
    let list = |view: &View| json!(view.book.newest().collect::<Vec<_>>());
    Json(json!({"incidents": face.shared.read(list)}))
}

async fn incident(State(face): State<Face>, Path(id): Path<String>) -> Response {
    match face.shared.read(|view| view.book.get(&id)) {
        Some(incident) => Json(incident).into_response(),
        None => {
            let error = format!("no incident {id} in memory; older ones are in audit.jsonl");
            (StatusCode::NOT_FOUND, Json(json!({"error": error}))).into_response()
        }
    }
}

async fn sensors(State(face): State<Face>) -> Json<Value> {
    Json(json!({"sensors": face.shared.read(|view| view.sensors.clone())}))
}

async fn policies(State(face): State<Face>) -> Json<Value> {
    Json(json!(face.shared.read(|view| view.policies.clone())))
}

async fn workloads(State(face): State<Face>) -> Json<Value> {
    let list = |view: &View| view.workloads.values().cloned().collect::<Vec<_>>();
    Json(json!({"workloads": face.shared.read(list)}))
}

async fn dependencies(State(face): State<Face>) -> Json<Value> {
    Json(json!({"dependencies": face.shared.read(|view| view.dependencies.list())}))
}

async fn scores(State(face): State<Face>) -> Json<Value> {
    Json(json!({"scores": face.shared.read(|view| view.scores.list())}))
}

/// OpenMetrics only if it is asked for, and not less than plain text (RFC 9110, 12.5.1).
fn prefers_openmetrics(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let quality_of = |kind: &str| accept.split(',').find_map(|range| quality(range, kind));
    quality_of("application/openmetrics-text")
        .is_some_and(|wish| wish > 0.0 && wish >= quality_of("text/plain").unwrap_or(0.0))
}

/// The `q` of `range` if it is of this media type; 1 if it has none.
fn quality(range: &str, kind: &str) -> Option<f32> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(kind) {
        return None;
    }
    let given = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
    Some(given.unwrap_or(1.0))
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
