use std::{sync::Mutex, time::Duration};

use axum::{Router, body::Bytes, http::StatusCode, routing::post};
use serde_json::Value;
use tokio::net::TcpListener;

use super::*;
use crate::{
    engine::{
        class::Class,
        command::IncidentId,
        report::{Closed, Outcome, ReportFact},
        time::BootTime,
    },
    identity::process::WorkloadKey,
};

type Posts = Arc<Mutex<Vec<Value>>>;

fn now() -> Now {
    Now { boot: BootTime(5_000_000_000), wall: jiff::Timestamp::from_second(1_700_000_000).unwrap() }
}

fn report(incident: u64, fact: ReportFact) -> Report {
    let workload = Some(WorkloadKey::supervise("web"));
    Report { at: BootTime(5_000_000_000), incident: Some(IncidentId(incident)), workload, fact }
}

fn notify(incident: u64) -> Report {
    let sentence = "web\u{1b}[31m crashed".to_owned();
    report(incident, ReportFact::Notify { class: Class::Crash, sentence, reason: "rule r".to_owned() })
}

fn closed(incident: u64) -> Report {
    let says = "runs again".to_owned();
    let to_detect = Duration::ZERO;
    let closed = Closed { outcome: Outcome::Healed, says, to_detect, to_act: None, to_recover: None };
    report(incident, ReportFact::Closed(closed))
}

/// Takes posts after it has refused the first `refusals`.
async fn alertmanager(mut refusals: u32) -> (Target, Posts) {
    let posts = Posts::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let refusals = Arc::new(Mutex::new(std::mem::take(&mut refusals)));
    let kept = posts.clone();
    let take = move |body: Bytes| {
        let (kept, refusals) = (kept.clone(), refusals.clone());
        async move {
            let mut left = refusals.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            kept.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            StatusCode::OK
        }
    };
    let router = Router::new().route("/api/v2/alerts", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let target = Target {
        host: Host::Address(address),
        authority: address.to_string(),
        path: "/api/v2/alerts".to_owned(),
        timeout: Duration::from_secs(2),
    };
    (target, posts)
}

async fn until_posts(posts: &Posts, count: usize) -> Vec<Value> {
    for _ in 0..500 {
        let seen = posts.lock().unwrap().clone();
        if seen.len() >= count {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{count} posts do not come: {:?}", posts.lock().unwrap());
}

#[tokio::test]
async fn an_alert_lasts_from_the_notification_to_the_close() {
    let (target, posts) = alertmanager(0).await;
    let metrics = Arc::new(Metrics::default());
    let mut webhook = Webhook::start(target, metrics.clone(), "node-1".to_owned());
    assert!(webhook.tell(now(), &notify(7)));
    let alert = until_posts(&posts, 1).await[0][0].clone();
    assert_eq!(alert["labels"]["alertname"], "HealerNotification");
    assert_eq!(alert["labels"]["class"], "crash");
    assert_eq!(alert["labels"]["incident"], "i7");
    assert_eq!(alert["labels"]["node"], "node-1");
    assert_eq!(alert["labels"]["workload"], "supervise/web");
    assert_eq!(alert["annotations"]["summary"], "web\\x1b[31m crashed");
    assert_eq!(alert["startsAt"], "2023-11-14T22:13:20.000000000Z");
    assert!(alert.get("endsAt").is_none());
    assert!(webhook.tell(now(), &closed(7)));
    let last = until_posts(&posts, 2).await[1].clone();
    assert_eq!(last[0]["labels"], alert["labels"]);
    assert_eq!(last[0]["endsAt"], "2023-11-14T22:13:20.000000000Z");
    assert_eq!(last[0]["annotations"]["outcome"], "healed");
    // What is over is told once: the next post is of the next incident alone.
    assert!(webhook.tell(now(), &notify(8)));
    let next = until_posts(&posts, 3).await[2].clone();
    assert_eq!(next.as_array().map(Vec::len), Some(1));
    // Counted once its answer has come, and that is after the post.
    let is_counted = || metrics.openmetrics().contains("webhook_posts_total{outcome=\"taken\"} 3");
    for _ in 0..3000 {
        if is_counted() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", metrics.openmetrics());
}

/// Nobody has healed it: Alertmanager forgets it by its own time.
#[tokio::test]
async fn what_is_only_told_is_not_resolved_at_once() {
    let (target, posts) = alertmanager(0).await;
    let mut webhook = Webhook::start(target, Arc::default(), "node-1".to_owned());
    let mut over = closed(7);
    if let ReportFact::Closed(closed) = &mut over.fact {
        closed.outcome = Outcome::Notified;
    }
    assert!(webhook.tell(now(), &notify(7)) && webhook.tell(now(), &over));
    let told = until_posts(&posts, 1).await;
    assert!(told.iter().all(|post| post[0]["labels"]["incident"] == "i7" && post[0].get("endsAt").is_none()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = posts.lock().unwrap().len();
    assert!(webhook.tell(now(), &notify(8)));
    let next = until_posts(&posts, before + 1).await[before].clone();
    assert_eq!(next.as_array().map(Vec::len), Some(1), "{next}");
}

#[tokio::test]
async fn what_was_not_taken_is_told_again() {
    let (target, posts) = alertmanager(1).await;
    let metrics = Arc::new(Metrics::default());
    let mut webhook = Webhook::start(target, metrics.clone(), "node-1".to_owned());
    assert!(webhook.tell(now(), &notify(1)));
    assert!(webhook.tell(now(), &notify(2)));
    let alerts = until_posts(&posts, 1).await[0].clone();
    assert_eq!(alerts.as_array().map(Vec::len), Some(2));
    assert!(metrics.openmetrics().contains("webhook_posts_total{outcome=\"failed\"} 1"));
}

#[tokio::test]
async fn a_target_that_never_answers_blocks_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = Target {
        host: Host::Address(address),
        authority: address.to_string(),
        path: "/".to_owned(),
        timeout: Duration::from_millis(50),
    };
    let error = post::post(&target, &mut Names::default(), &[]).await.unwrap_err();
    assert!(format!("{error:#}").contains("no answer within 50ms"), "{error:#}");
}

fn by_name(name: &str, port: u16) -> Target {
    Target {
        host: Host::Name { name: name.to_owned(), port },
        authority: format!("{name}:{port}"),
        path: "/api/v2/alerts".to_owned(),
        timeout: Duration::from_secs(2),
    }
}

#[tokio::test]
async fn a_name_is_posted_to_where_it_is() {
    let (target, posts) = alertmanager(0).await;
    let Host::Address(address) = target.host else { panic!("{target:?}") };
    let mut webhook =
        Webhook::start(by_name("localhost", address.port()), Arc::default(), "node-1".to_owned());
    assert!(webhook.tell(now(), &notify(7)));
    assert_eq!(until_posts(&posts, 1).await[0][0]["labels"]["incident"], "i7");
}

/// RFC 2606: nobody has that name.
#[tokio::test]
async fn a_name_that_nobody_knows_is_a_failed_post_in_words() {
    let target = by_name("nowhere.invalid", 9093);
    let error = post::post(&target, &mut Names::default(), &[]).await.unwrap_err();
    assert!(format!("{error:#}").contains("nowhere.invalid"), "{error:#}");
    let metrics = Arc::new(Metrics::default());
    let mut webhook = Webhook::start(target, metrics.clone(), "node-1".to_owned());
    assert!(webhook.tell(now(), &notify(7)));
    let is_counted = || metrics.openmetrics().contains("webhook_posts_total{outcome=\"failed\"} ");
    for _ in 0..1000 {
        if is_counted() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", metrics.openmetrics());
}
