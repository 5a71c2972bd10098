//! Lists and watches: one JSON event a line; 410 for what is forgotten, as an answer to who asks from there, and as an
//! event to who watches already.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use serde_json::{Value, json};

use super::store::Store;

const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) fn list(store: &Store, collection: &str, query: &str) -> Response {
    // No list is cut here: a token to go on is of one that is forgotten.
    if query.split('&').any(|pair| pair.starts_with("continue=")) {
        return (StatusCode::GONE, axum::Json(gone())).into_response();
    }
    let mut items = store.below(collection);
    items.retain(|item| is_selected(item, query));
    let version = store.version().to_string();
    axum::Json(json!({"kind": "List", "metadata": {"resourceVersion": version}, "items": items}))
        .into_response()
}

/// `store` is what `shared` holds.
pub(super) fn watch(shared: &Arc<Mutex<Store>>, store: &Store, collection: &str, query: &str) -> Response {
    let version = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
    let start = version.and_then(|version| version.parse().ok()).unwrap_or(0);
    if store.since(start, collection).is_none() {
        return (StatusCode::GONE, axum::Json(gone())).into_response();
    }
    let (collection, query, ends) = (collection.to_owned(), query.to_owned(), store.ends);
    let begun = Some((Arc::clone(shared), start));
    let events = stream::unfold(begun, move |state| {
        let (collection, query) = (collection.clone(), query.clone());
        async move {
            let (store, after) = state?;
            loop {
                let (events, now) = {
                    let store = store.lock().expect("no panic while it was held");
                    if store.ends != ends {
                        return None;
                    }
                    (store.since(after, &collection), store.version())
                };
                match events {
                    None => return Some((line(&json!({"type": "ERROR", "object": gone()})), None)),
                    Some(events) if !events.iter().any(|event| is_selected(&event["object"], &query)) => {
                        tokio::time::sleep(LOOK_EVERY).await;
                    }
                    Some(events) => {
                        let selected = events.iter().filter(|event| is_selected(&event["object"], &query));
                        let lines: String = selected.map(text).collect();
                        return Some((Ok(Bytes::from(lines)), Some((store, now))));
                    }
                }
            }
        }
    });
    Body::from_stream(events).into_response()
}

/// `fieldSelector=spec.nodeName%3Dn1`, and no other.
fn is_selected(object: &Value, query: &str) -> bool {
    let mut pairs = query.split('&');
    pairs
        .find_map(|pair| pair.strip_prefix("fieldSelector=spec.nodeName%3D"))
        .is_none_or(|node| object["spec"]["nodeName"] == node)
}

fn gone() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
        "message": "too old resource version",
    })
}

fn text(event: &Value) -> String {
    format!("{event}\n")
}

fn line(event: &Value) -> Result<Bytes, std::convert::Infallible> {
    Ok(Bytes::from(text(event)))
}
