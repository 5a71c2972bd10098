//! The answer that does not end: every signal, line by line, until the client goes.

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};

use super::{
    Change, Response,
    server::{IDLE_LIMIT, Peers, send},
};

/// Lines that wait for a slow reader; what finds no room is told to it as lost.
const LINES: usize = 8192;
/// Lines that go out with one write.
const BATCH: usize = 256;

impl Peers {
    pub(super) async fn record(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> anyhow::Result<()> {
        let (lines, mut told) = mpsc::channel(LINES);
        match self.order(Change::Record { lines }).await {
            Ok(says) => send(&mut to, &Response::Ok(json!(says))).await?,
            Err(words) => return send(&mut to, &Response::Error(words)).await,
        }
        let mut batch: Vec<Bytes> = Vec::new();
        let mut farewell = [0; 16];
        loop {
            tokio::select! {
                count = told.recv_many(&mut batch, BATCH) => if count == 0 { return Ok(()) },
                heard = from.read(&mut farewell) => if heard.context("listen to the client")? == 0 { return Ok(()) },
            }
            if !batch.is_empty() {
                timeout(IDLE_LIMIT, to.write_all(&batch.concat())).await?.context("send signals")?;
                batch.clear();
            }
        }
    }
}
