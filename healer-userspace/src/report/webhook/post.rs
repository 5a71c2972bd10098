//! One post, on a connection of its own: alerts are rare, and an idle connection is one more thing to break.

use core::time::Duration;
use std::net::SocketAddr;

use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, body::Bytes, header};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
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
    match timeout_at(until, send(target, &addresses?, until, body)).await {
        Ok(done) => done,
        Err(_elapsed) => bail!("no answer within {:?}", target.timeout),
    }
}

/// To the first of the addresses that lets itself be connected to.
async fn send(
    target: &Target,
    addresses: &[SocketAddr],
    until: Instant,
    body: Vec<u8>,
) -> anyhow::Result<()> {
    let stream = connect(addresses, until).await.context("connect")?;
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

/// Each has its share of the time that is left: one from which nothing comes back does not eat that of the others.
async fn connect(addresses: &[SocketAddr], until: Instant) -> anyhow::Result<TcpStream> {
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let mut last = anyhow!("no address");
    for (address, left) in addresses.iter().zip((1..=count).rev()) {
        let limit = share(until.saturating_duration_since(Instant::now()), left);
        last = match timeout(limit, TcpStream::connect(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => anyhow::Error::new(error).context(address.to_string()),
            Err(_elapsed) => anyhow!("{address}: no answer within {limit:.1?}"),
        };
    }
    Err(last)
}

/// Of one of as many as are `left` to try, itself among them.
fn share(time: Duration, left: u32) -> Duration {
    time / left.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_address_leaves_the_others_their_time() {
        let second = Duration::from_secs(1);
        assert_eq!(share(second * 6, 3), second * 2);
        assert_eq!(share(second * 4, 1), second * 4);
        assert_eq!(share(Duration::ZERO, 0), Duration::ZERO);
    }

    #[tokio::test]
    async fn the_next_address_is_tried_and_the_last_one_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (heard, until) = (listener.local_addr().unwrap(), Instant::now() + Duration::from_secs(5));
        // Nobody listens at a port so low.
        let refused = SocketAddr::from(([127, 0, 0, 2], 1));
        let stream = connect(&[refused, heard], until).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), heard);
        let error = connect(&[refused], until).await.unwrap_err();
        assert!(format!("{error:#}").starts_with("127.0.0.2:1: "), "{error:#}");
    }
}
