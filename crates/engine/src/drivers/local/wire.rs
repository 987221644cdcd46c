//! What a worker and its server say to each other: lines of JSON, after each has proved to the
//! other that it knows the VM's secret.
//!
//! ```text
//! server  {"nonce": N}                       both nonces are fresh
//! worker  {"vm": ID, "nonce": M, "mac": HMAC(secret, "worker" | address | N | M | ID)}
//! server  {"mac": HMAC(secret, "server" | address | N | M | ID)}
//! worker  "hello", then either side as it likes
//! ```
//!
//! The secret never travels. `address` is where the worker dialled: a stranger who got hold of an
//! old port cannot pass the challenge on to the server at its new one. The channel is not
//! encrypted: it does not leave the loopback interface, which only root can listen to.

use std::{collections::TryReserveError, fmt, io, net::SocketAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use pileus_model::{Exit, Output};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::desk::End;

/// Longest line before the other side has proved who it is, in bytes.
pub(super) const GREETING_MAX: usize = 1 << 10;
/// Longest line afterwards, in bytes: two streams of 1 MiB in base64, or a long command.
pub(super) const LINE_MAX: usize = 4 << 20;
/// How often a worker says that it lives, in seconds.
pub(super) const ALIVE_S: u64 = 10;

/// 256 bits that prove something. Neither shown nor compared except by [`Mac`].
#[derive(Clone)]
pub(super) struct Secret([u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    pub(super) fn random() -> io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// For a file of mode 0600, and nothing else.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The secret of one purpose, made from this one.
    pub(super) fn derive(&self, purpose: &[&[u8]]) -> Self {
        Self(self.mac(purpose).finalize().into_bytes().into())
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new(&self.block());
        parts.iter().for_each(|part| {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        });
        mac
    }

    /// HMAC fills a key that is shorter than the hash's block with zeros: done here, no length can fail.
    fn block(&self) -> hmac::digest::Key<Hmac<Sha256>> {
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        block.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        block
    }
}

/// The parties and the moment that a proof holds for.
pub(super) struct Challenge<'a> {
    pub(super) secret: &'a Secret,
    pub(super) address: SocketAddr,
    pub(super) server_nonce: &'a str,
    pub(super) worker_nonce: &'a str,
    pub(super) vm: &'a str,
}

impl Challenge<'_> {
    /// The proof of `role`: `worker` or `server`.
    pub(super) fn proof(&self, role: &str) -> String {
        BASE64_STANDARD.encode(self.mac(role).finalize().into_bytes())
    }

    /// Whether `proof` is the proof of `role`; compared in constant time.
    pub(super) fn holds(&self, role: &str, proof: &str) -> bool {
        BASE64_STANDARD.decode(proof).is_ok_and(|proof| self.mac(role).verify_slice(&proof).is_ok())
    }

    fn mac(&self, role: &str) -> Hmac<Sha256> {
        let address = self.address.to_string();
        let parts = [role, &address, self.server_nonce, self.worker_nonce, self.vm];
        self.secret.mac(&parts.map(str::as_bytes))
    }
}

/// A fresh random word.
pub(super) fn nonce() -> io::Result<String> {
    Ok(BASE64_STANDARD.encode(Secret::random()?.as_bytes()))
}

/// First line: the server's.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) nonce: String,
}

/// Second line: the worker's.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) vm: String,
    pub(super) nonce: String,
    pub(super) mac: String,
}

/// Third line: the server's.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Welcome {
    pub(super) mac: String,
}

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromWorker {
    /// First of all: the job that runs, and those that ended and were not acknowledged. Each of
    /// them follows as `Finished`.
    Hello { running: Option<String>, finished: Vec<String> },
    /// A job ended. Said again on every connection until it is acknowledged.
    Finished(Finished),
    /// Nothing new.
    Alive,
}

/// What a server says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToWorker {
    /// Run this, unless it is known already.
    Run { job: String, command: Vec<String> },
    /// End this, if it runs.
    Kill { job: String },
    /// The result of this is durable: forget it.
    Ack { job: String },
    /// End everything, and yourself.
    Stop,
}

/// How a job ended, and what it wrote.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Finished {
    pub(super) job: String,
    pub(super) end: WireEnd,
    #[serde(with = "in_base64")]
    pub(super) stdout: Vec<u8>,
    #[serde(with = "in_base64")]
    pub(super) stderr: Vec<u8>,
    pub(super) truncated: bool,
}

/// [`End`] as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WireEnd {
    Code(i32),
    Signal(i32),
    NotStarted(String),
    OverLimit(String),
}

impl Finished {
    pub(super) fn into_parts(self) -> (String, End, Output) {
        let end = match self.end {
            WireEnd::Code(code) => End::Exited(Exit::Code(code)),
            WireEnd::Signal(signal) => End::Exited(Exit::Signal(signal)),
            WireEnd::NotStarted(why) => End::NotStarted(why),
            WireEnd::OverLimit(why) => End::OverLimit(why),
        };
        (self.job, end, Output { stdout: self.stdout, stderr: self.stderr, truncated: self.truncated })
    }
}

mod in_base64 {
    use std::borrow::Cow;

    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}

/// A message as its line.
pub(super) fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Writes a message.
pub(super) async fn say<W: AsyncWrite + Unpin>(writer: &mut W, message: &impl Serialize) -> io::Result<()> {
    writer.write_all(&line(message)?).await
}

/// Lines with a hard limit, read in a way that may be cancelled at any time.
pub(super) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Up to here the buffer holds no line's end.
    checked: usize,
    max: usize,
}

/// What an idle connection may keep, and what it reads at once, in bytes.
const CHUNK: usize = 8 << 10;

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R, max: usize) -> Self {
        Self { reader, buffer: Vec::new(), checked: 0, max }
    }

    /// The same connection under another limit.
    pub(super) fn with_max(self, max: usize) -> Self {
        Self { max, ..self }
    }

    /// The next message; `None` where the other side has hung up between two.
    pub(super) async fn hear<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(line) = self.next().await? else { return Ok(None) };
        // The error shows a part of the text, which may be a user's: its kind and place suffice.
        serde_json::from_slice(&line).map(Some).map_err(|error| {
            let problem = format!("not a message: {:?} at column {}", error.classify(), error.column());
            io::Error::new(io::ErrorKind::InvalidData, problem)
        })
    }

    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().skip(self.checked).position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.checked + end + 1);
                self.checked = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            self.checked = self.buffer.len();
            if self.checked > self.max {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
            }
            self.buffer.try_reserve(CHUNK).map_err(|error: TryReserveError| io::Error::other(error))?;
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_where_they_end_and_refused_where_they_do_not() {
        let long = [b'1'; 40_000];
        let cases = [
            (&b"1\n22\n"[..], 100, &[Some(1), Some(22)][..]),
            (b"", 100, &[]),
            (b"1\n2", 100, &[Some(1), None]),
            (b"1\nx\n", 100, &[Some(1), None]),
            (&long, 10_000, &[None]),
        ];
        for (bytes, max, expected) in cases {
            let mut lines = Lines::new(bytes, max);
            for wanted in expected {
                assert_eq!(lines.hear::<u32>().await.ok().flatten(), *wanted);
            }
            if expected.last() != Some(&None) {
                assert!(lines.hear::<u32>().await.unwrap().is_none());
            }
        }
    }

    #[test]
    fn a_proof_holds_for_its_parties_and_moment_alone() {
        let secret = Secret::from_bytes(&[7; 32]).unwrap();
        let other = Secret::from_bytes(&[8; 32]).unwrap();
        let here: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let there: SocketAddr = "127.0.0.1:2".parse().unwrap();
        let challenge = |secret, address, server_nonce, worker_nonce, vm| Challenge {
            secret,
            address,
            server_nonce,
            worker_nonce,
            vm,
        };
        let proof = challenge(&secret, here, "n", "m", "v").proof("worker");
        let cases = [
            ("the same", challenge(&secret, here, "n", "m", "v"), "worker", true),
            ("another role", challenge(&secret, here, "n", "m", "v"), "server", false),
            ("another secret", challenge(&other, here, "n", "m", "v"), "worker", false),
            ("passed on to another port", challenge(&secret, there, "n", "m", "v"), "worker", false),
            ("an old question", challenge(&secret, here, "o", "m", "v"), "worker", false),
            ("another VM", challenge(&secret, here, "n", "m", "w"), "worker", false),
            ("shifted words", challenge(&secret, here, "nm", "", "v"), "worker", false),
        ];
        for (what, challenge, role, holds) in cases {
            assert_eq!(challenge.holds(role, &proof), holds, "{what}");
        }
        assert!(!challenge(&secret, here, "n", "m", "v").holds("worker", ""));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn a_result_survives_the_wire_to_the_byte() {
        let result = || Finished {
            job: "j\n\"1\"".into(),
            end: WireEnd::Signal(9),
            stdout: (0..=255).collect(),
            stderr: b"\n".to_vec(),
            truncated: true,
        };
        let line = line(&FromWorker::Finished(result())).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let FromWorker::Finished(back) = serde_json::from_slice(&line).unwrap() else { panic!() };
        assert_eq!(back, result());
    }
}
