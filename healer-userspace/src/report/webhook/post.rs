//! One post, on a connection of its own: alerts are rare, and an idle connection is one more thing to break.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, body::Bytes, header};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{Target, alert::Alert, names::Names};

/// Of an answer that is no success, for the message.
const SHOWN: usize = 200;
/// A longer one is not read.
const ANSWER_MAX: usize = 16 * 1024;

/// # Errors
/// No address, nobody listens, no answer in time, or an answer that is no success (status and its first words).
pub(super) async fn post(target: &Target, names: &mut Names, alerts: &[&Alert]) -> anyhow::Result<()> {
    let body = serde_json::to_vec(alerts).context("write the alerts as JSON")?;
    let until = Instant::now() + target.timeout;
    let Ok(addresses) = timeout_at(until, names.addresses(&target.host)).await else {
        bail!("no word from the resolver of {} within {:?}", target.authority, target.timeout);
    };
    match timeout_at(until, send(target, &addresses?, body)).await {
        Ok(done) => done,
        Err(_elapsed) => bail!("no answer within {:?}", target.timeout),
    }
}

/// To the first of the addresses that lets itself be connected to.
async fn send(target: &Target, addresses: &[SocketAddr], body: Vec<u8>) -> anyhow::Result<()> {
    let stream = TcpStream::connect(addresses).await.context("connect")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("speak HTTP")?;
    let request = Request::post(&target.path)
        .header(header::HOST, &target.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .context("make the request")?;
    // The connection must be driven for the exchange to go on; it ends by itself.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.context("post")?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let said = Limited::new(answer.into_body(), ANSWER_MAX)
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let said = String::from_utf8_lossy(said.get(..SHOWN).unwrap_or(&said)).into_owned();
    bail!("{status}: {}", crate::text::printable(said.trim()))
}
