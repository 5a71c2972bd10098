//! One request, with an end; its answer as plain JSON.

use core::time::Duration;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Request, Response, header,
    http::{self, request::Builder},
};
use kube::{Client, client::Body};
use serde_json::Value;
use tokio::sync::Mutex;

use super::{Settings, certificate, connect::Credentials, rights::Right, watched::Watched};
use crate::{clock, text::printable};

pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Who sets fields, as the server keeps it.
pub(super) const MANAGER: &str = "healer";
/// Some thousand policies.
const ANSWER_MAX: usize = 16 << 20;
const UNAUTHORIZED: u16 = 401;
/// Of an error's words, for a person.
const SHOWN: usize = 300;

#[derive(Clone)]
pub(super) struct Api(Arc<Inner>);

struct Inner {
    credentials: Credentials,
    client: Mutex<Option<Client>>,
    node: String,
}

/// What is sent, beside its right and its path.
#[derive(Clone, Copy)]
pub(super) enum Send<'a> {
    Nothing,
    Json(&'a Value),
    /// RFC 7386.
    Merge(&'a Value),
    /// Server-side apply; its path says whether other managers' fields are taken over.
    Apply(&'a Value),
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn is_ok(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Too much to do (429), or a server in trouble: the same question may be answered soon.
    pub(super) fn is_for_later(&self) -> bool {
        self.code == 429 || 500 <= self.code
    }

    /// The server's own words, as in a `Status`.
    pub(super) fn words(&self) -> String {
        let message = self.body["message"].as_str().unwrap_or("no reason given");
        let short: String = message.chars().take(SHOWN).collect();
        format!("{} {}", self.code, printable(&short))
    }
}

impl Api {
    pub(super) fn new(credentials: Credentials, settings: &Settings) -> Self {
        // The kubelet's own default.
        let by_kernel = || rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        let node = settings.given_node().unwrap_or_else(by_kernel);
        Self(Arc::new(Inner { credentials, client: Mutex::new(None), node }))
    }

    pub(super) fn node(&self) -> &str {
        &self.0.node
    }

    /// An answer of any status; an error only if there was none.
    pub(super) async fn ask(&self, right: &Right, path: &str, send: Send<'_>) -> Result<Answer, String> {
        let tried = format!("{} {} of Kubernetes", right.verb, right.resource);
        let asked = async {
            let answer = self.exchange(right, path, send).await?;
            if answer.code != UNAUTHORIZED {
                return Ok(answer);
            }
            // Token and certificate change now and then: they are read again, once.
            *self.0.client.lock().await = None;
            self.exchange(right, path, send).await
        };
        let failure = match tokio::time::timeout(ANSWERS_WITHIN, asked).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_elapsed) => format!("no answer within {} s", ANSWERS_WITHIN.as_secs()),
        };
        // Its connection is dead, or its certificates are old: the next question begins with what the files say then.
        *self.0.client.lock().await = None;
        Err(format!("{tried}: {failure}"))
    }

    async fn exchange(&self, right: &Right, path: &str, send: Send<'_>) -> Result<Answer, String> {
        whole(self.send(right, path, send).await?).await
    }

    /// What is followed, or why not. It may take as long as nothing changes: the caller has a limit.
    pub(super) async fn watch(&self, right: &Right, path: &str) -> Result<Result<Watched, Answer>, String> {
        debug_assert_eq!(right.verb, "watch");
        let answer = self.send(right, path, Send::Nothing).await?;
        if answer.status().is_success() {
            return Ok(Ok(Watched::new(answer.into_body())));
        }
        whole(answer).await.map(Err)
    }

    async fn send(&self, right: &Right, path: &str, send: Send<'_>) -> Result<Response<Body>, String> {
        let request = request(right, path, send).map_err(|error| error.to_string())?;
        self.client().await?.send(request).await.map_err(|error| chain(&error))
    }

    async fn client(&self) -> Result<Client, String> {
        let mut client = self.0.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made = self.0.credentials.client().await?;
        *client = Some(made.clone());
        Ok(made)
    }
}

async fn whole(answer: Response<Body>) -> Result<Answer, String> {
    let code = answer.status().as_u16();
    let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|value| {
        let seconds = value.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    });
    let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(|error| chain(&*error))?.to_bytes();
    Ok(Answer { code, retry_after, body: serde_json::from_slice(&body).unwrap_or_default() })
}

fn request(right: &Right, path: &str, send: Send<'_>) -> http::Result<Request<Body>> {
    let method = match right.verb {
        "create" => "POST",
        "patch" => "PATCH",
        "delete" => "DELETE",
        _reads => "GET",
    };
    let to = |path: &str| Request::builder().method(method).uri(path);
    let with = |builder: Builder, kind: &str, value: &Value| {
        builder.header(header::CONTENT_TYPE, kind).body(Body::from(value.to_string().into_bytes()))
    };
    match send {
        Send::Nothing => to(path).body(Body::empty()),
        Send::Json(value) => with(to(path), "application/json", value),
        Send::Merge(value) => {
            with(to(&format!("{path}?fieldManager={MANAGER}")), "application/merge-patch+json", value)
        }
        // JSON is YAML.
        Send::Apply(value) => with(to(path), "application/apply-patch+yaml", value),
    }
}

/// Now, as `metav1.Time` has it.
pub(super) fn now() -> String {
    format!("{:.0}", clock::wall())
}

/// An error, what it came of and, of a certificate, what helps: for a person.
pub(super) fn chain(error: &dyn core::error::Error) -> String {
    let mut says = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_says = cause.to_string();
        if !says.contains(&cause_says) {
            says = format!("{says}: {cause_says}");
        }
        next = cause.source();
    }
    let remedy = certificate::remedy(&says).map(|remedy| format!("; {remedy}"));
    format!("{}{}", printable(&says), remedy.unwrap_or_default())
}
