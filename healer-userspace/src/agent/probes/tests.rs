use std::{io::BufRead as _, net::TcpListener};

use super::*;
use crate::kubernetes::Cluster;

fn probe(ask: ProbeAsk) -> Probe {
    let timeout = Duration::from_millis(300);
    Probe { ask, period: Duration::from_secs(1), timeout, failures: 1, start_grace: Duration::ZERO }
}

/// A server that reads a request and then says `answer`, if anything.
fn server(answer: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = String::new();
        io::BufReader::new(&stream).read_line(&mut request).unwrap();
        assert!(request.starts_with("GET /livez "), "{request}");
        if let Some(answer) = answer {
            stream.write_all(answer.as_bytes()).unwrap();
        } else {
            thread::sleep(Duration::from_secs(2));
        }
    });
    port
}

fn asked(ask: ProbeAsk) -> Result<Probed, String> {
    let probe = probe(ask);
    let process = Process { pid: std::process::id(), ..Process::default() };
    let (answer, left) = super::ask(&process, &probe, &Cluster::default().kubelet());
    left.into_iter().for_each(|mut left| drop(left.wait()));
    probed(&probe, answer)
}

fn get(answer: Option<&'static str>) -> Probed {
    let port = server(answer);
    asked(ProbeAsk::Http { port, path: "/livez".into() }).unwrap()
}

#[test]
fn http_goes_by_the_status() {
    assert!(get(Some("HTTP/1.1 204 No Content\r\n\r\n")).ok);
    assert_eq!(get(Some("HTTP/1.1 503 Not now\r\n\r\n")).says, "status 503");
    assert_eq!(get(Some("SSH-2.0-x\r\n")).says, "the answer is not HTTP");
    let none = get(None);
    assert_eq!((none.says.as_str(), none.late), ("no answer in 300ms", true));
}

#[test]
fn tcp_goes_by_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(asked(ProbeAsk::Tcp { port }).unwrap().ok);
    drop(listener);
    let elsewhere = TcpListener::bind("127.0.0.9:0").unwrap();
    let port_there = elsewhere.local_addr().unwrap().port();
    assert!(asked(ProbeAsk::Tcp { port: port_there }).unwrap().ok, "it is asked where it listens");
    let refused = asked(ProbeAsk::Tcp { port }).unwrap();
    assert!(!refused.ok && !refused.late, "{refused:?}");
}

#[test]
fn exec_goes_by_the_exit_status_and_is_ended_in_time() {
    let run = |words: &[&str]| {
        let command = words.iter().map(|word| (*word).to_owned()).collect();
        asked(ProbeAsk::Exec { command })
    };
    assert!(run(&["true"]).unwrap().ok);
    assert_eq!(run(&["false"]).unwrap().says, "exit status: 1");
    assert_eq!(run(&["sleep", "30"]).unwrap().says, "no answer in 300ms");
}

#[test]
fn what_healer_cannot_ask_is_no_answer_of_the_workload() {
    let command = vec!["/nonexistent".to_owned()];
    let why = asked(ProbeAsk::Exec { command }).unwrap_err();
    assert!(why.contains("cannot be started"), "{why}");
    // Nobody has this pid.
    let why = connect(u32::MAX, 1, Duration::from_millis(10)).unwrap_err();
    assert!(matches!(&why, No::NotAsked(says) if says.contains("network namespace")), "{why:?}");
}
