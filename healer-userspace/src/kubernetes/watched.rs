//! A watch's answer: one event a line, for as long as the server likes.

use std::io;

use http_body_util::BodyExt as _;
use kube::{client::Body, core::WatchEvent};
use serde_json::Value;

use super::api::chain;

/// Far above the greatest object that a server keeps (1.5 MiB).
const LINE_MAX: usize = 16 << 20;

pub(super) struct Watched {
    body: Body,
    read: Vec<u8>,
}

impl Watched {
    pub(super) fn new(body: Body) -> Self {
        Self { body, read: Vec::new() }
    }

    /// None: the server has ended it. Who gives up waiting loses nothing that was read.
    pub(super) async fn next(&mut self) -> Option<Result<WatchEvent<Value>, String>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).map_err(|error| format!("no event: {error}")));
            }
            if LINE_MAX < self.read.len() {
                return Some(Err(format!("an event of more than {} MiB", LINE_MAX >> 20)));
            }
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Some(data) = frame.data_ref() {
                        self.read.extend_from_slice(data);
                    }
                }
                Err(error) if is_cut(&error) => return None,
                Err(error) => return Some(Err(chain(&error))),
            }
        }
    }
}

/// The connection ended before the answer did, as when a server is restarted or a proxy has had enough.
fn is_cut(error: &(dyn core::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let by_kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(by_kind, Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::TimedOut)) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_line_is_an_event_and_an_unfinished_one_is_none() {
        let bytes =
            b"{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n{\"type\":\"DELETED\",\"object\":{}}\nodd\n{\"ty";
        let mut watched = Watched::new(Body::from(bytes.to_vec()));
        assert!(matches!(watched.next().await, Some(Ok(WatchEvent::Added(object))) if object["a"] == 1));
        assert!(matches!(watched.next().await, Some(Ok(WatchEvent::Deleted(_)))));
        assert!(matches!(watched.next().await, Some(Err(_))));
        assert!(watched.next().await.is_none());
    }
}
