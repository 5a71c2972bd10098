use axum::http::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{
    engine::time::BootTime,
    report::{
        view::{Sensor, SensorState},
        wall::Now,
    },
};

fn face() -> Face {
    let wall = jiff::Timestamp::from_second(1_700_000_000).expect("in range");
    Face {
        shared: Shared::default(),
        metrics: Arc::default(),
        clock: Arc::new(move || Now { boot: BootTime(60_000_000_000), wall }),
    }
}

/// Status line, headers and body as they came over a real socket.
fn get_over_tcp(face: Face, request: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(serve(listener, face));
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connect");
        let request = format!("{request}Host: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("receive");
        server.abort();
        answer
    })
}

#[test]
fn metrics_come_in_the_format_that_was_asked_for() {
    let plain = get_over_tcp(face(), "GET /metrics HTTP/1.1\r\n");
    assert!(plain.starts_with("HTTP/1.1 200 OK\r\n"), "{plain}");
    assert!(plain.contains("content-type: text/plain; version=0.0.4"), "{plain}");
    assert!(plain.contains("# TYPE healer_audit_failures_total counter\n"), "{plain}");
    let open = get_over_tcp(
        face(),
        "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n",
    );
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0"), "{open}");
    assert!(open.contains("# EOF"), "{open}");
}

#[test]
fn plain_text_is_the_default() {
    let prefers = |accept: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        prefers_openmetrics(&headers)
    };
    assert!(!prefers_openmetrics(&HeaderMap::new()));
    assert!(!prefers("*/*"));
    assert!(prefers("application/openmetrics-text"));
    assert!(!prefers("text/plain;q=0.9, application/openmetrics-text;q=0.2"));
    assert!(!prefers("application/openmetrics-text;q=0"));
}

#[test]
fn readyz_says_why_not() {
    let face = face();
    let answer = get_over_tcp(face.clone(), "GET /readyz HTTP/1.1\r\n");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("- no kernel program is attached\n"), "{answer}");
    face.shared.update(|view| {
        view.sensors =
            vec![Sensor { state: SensorState::Attached, via: Some("tp_btf".into()), ..Sensor::default() }];
        view.readiness.probe_seen(BootTime(59_000_000_000));
    });
    let answer = get_over_tcp(face, "GET /readyz HTTP/1.1\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn an_unknown_incident_is_404_and_nothing_can_be_changed() {
    let missing = get_over_tcp(face(), "GET /api/v1/incidents/i9 HTTP/1.1\r\n");
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
    assert!(missing.contains("no incident i9 in memory"), "{missing}");
    let post = get_over_tcp(face(), "POST /api/v1/incidents HTTP/1.1\r\nContent-Length: 0\r\n");
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
}

#[test]
fn a_taken_port_is_an_error_in_words() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let first = bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = first.local_addr().expect("bound");
        let error = bind(address).await.expect_err("it is taken").to_string();
        assert!(error.contains("another program, perhaps another healer"), "{error}");
        assert!(error.contains("--listen"), "{error}");
    });
}
