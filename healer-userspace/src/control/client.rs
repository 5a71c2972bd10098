//! The side of the command line: one question, one answer.

use core::time::Duration;
use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::Value;

use super::{Request, Response, SOCKET, socket};

const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("no agent at {dir}: is `healer run` running? (--state-dir / HEALER_STATE_DIR)")]
    NoAgent { dir: String },
    #[error("the agent at {dir} may be asked by root only")]
    Forbidden { dir: String },
    #[error("ask the agent at {dir}: {error}")]
    Broken { dir: String, error: io::Error },
    /// What the agent said.
    #[error("{0}")]
    Refused(String),
}

/// Asks the agent whose state is in `state_dir`.
///
/// # Errors
/// `NoAgent` if nobody listens there, `Refused` with the agent's own words.
pub fn ask(state_dir: &Path, request: &Request) -> Result<Value, AskError> {
    match exchange(state_dir, request) {
        Ok(Response::Ok(value)) => Ok(value),
        Ok(Response::Error(words)) => Err(AskError::Refused(words)),
        Err(error) => Err(in_words(state_dir, error)),
    }
}

/// Opens a stream of signals, a line each. Reads give `WouldBlock` or `TimedOut` when nothing came for `patience`.
///
/// # Errors
/// As [`ask`].
pub fn record(state_dir: &Path, patience: Duration) -> Result<BufReader<UnixStream>, AskError> {
    let told = || {
        let mut stream = BufReader::new(send(state_dir, &Request::Record)?);
        let response = receive(&mut stream)?;
        stream.get_ref().set_read_timeout(Some(patience))?;
        Ok((response, stream))
    };
    match told() {
        Ok((Response::Ok(_), stream)) => Ok(stream),
        Ok((Response::Error(words), _)) => Err(AskError::Refused(words)),
        Err(error) => Err(in_words(state_dir, error)),
    }
}

fn exchange(state_dir: &Path, request: &Request) -> io::Result<Response> {
    receive(&mut BufReader::new(send(state_dir, request)?))
}

fn send(state_dir: &Path, request: &Request) -> io::Result<UnixStream> {
    let mut stream = socket::connect(state_dir, SOCKET)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(stream)
}

fn receive(stream: &mut BufReader<UnixStream>) -> io::Result<Response> {
    let mut answer = String::new();
    stream.read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}

fn in_words(state_dir: &Path, error: io::Error) -> AskError {
    let dir = state_dir.display().to_string();
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
    if absent.contains(&error.kind()) {
        AskError::NoAgent { dir }
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        AskError::Forbidden { dir }
    } else {
        AskError::Broken { dir, error }
    }
}
