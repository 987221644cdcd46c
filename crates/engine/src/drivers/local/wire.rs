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

use std::{collections::TryReserveError, fmt, io, net::SocketAddr, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use pileus_model::{Exit, Gap, Output, OutputPart, OutputRange, RunTimes, StreamOutput, Time};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::desk::{End, JobResult};

/// Longest line before the other side has proved who it is, in bytes.
pub(super) const GREETING_MAX: usize = 1 << 10;
/// Longest line of a server afterwards, in bytes: a long command.
pub(super) const LINE_MAX: usize = 4 << 20;
/// Most that is kept of each of a job's two streams, in bytes.
pub(super) const OUTPUT_MAX: usize = 4 << 20;
/// Longest line of a worker, in bytes: two streams of [`OUTPUT_MAX`] in base64.
pub(super) const RESULT_MAX: usize = (2 * OUTPUT_MAX).div_ceil(3) * 4 + (64 << 10);
/// Most bytes of a job's output in one [`Part`].
pub(super) const PART_MAX: usize = 64 << 10;
/// Version of a worker that answers [`ToWorker::Read`]. An older one hangs up on what it does not know.
pub(super) const READS: u32 = 1;
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
    /// them follows as `Finished`. `version`: what the worker understands; see [`READS`].
    Hello {
        running: Option<String>,
        finished: Vec<String>,
        #[serde(default)]
        version: u32,
    },
    /// A job ended. Said again on every connection until it is acknowledged.
    Finished(Finished),
    /// Answer to a [`ToWorker::Read`] of the same number.
    Part(Part),
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
    /// Send a piece of what this job wrote. Waits for up to `wait_ms` while there is none at the offset and the
    /// job runs.
    Read { id: u64, job: String, range: OutputRange, wait_ms: u64 },
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
    /// Bytes left out of `stdout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stdout_gap: Option<Gap>,
    /// Bytes left out of `stderr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stderr_gap: Option<Gap>,
    /// When it ran, by the worker's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) span: Option<Span>,
    /// The worker ended it because it ended itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) interrupted: bool,
}

/// Time that a job ran, by a clock that runs while the host is suspended and is never set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Span {
    /// Length of the run.
    pub(super) ran_ms: u64,
    /// Time of the end since the host started. Means something on this host alone.
    pub(super) ended_at_ms: u64,
    /// Time since the end. Set when the result is sent.
    #[serde(default)]
    pub(super) ended_ago_ms: u64,
}

impl Span {
    /// The same with `ended_ago_ms` as it is now, on the host that made it.
    pub(super) fn aged(self) -> Self {
        Self { ended_ago_ms: boot_ms().saturating_sub(self.ended_at_ms), ..self }
    }
}

/// Milliseconds since the host started, with the time that it was suspended. Not the engine's clock: a worker has
/// none, and no wall clock is trusted.
pub(super) fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (secs, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    secs.unwrap_or(0).saturating_mul(1000).saturating_add(nanos.unwrap_or(0) / 1_000_000)
}

/// Piece of what a job wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Part {
    /// Number of the [`ToWorker::Read`].
    pub(super) id: u64,
    /// `false`: the job does not run here, and nothing else is said.
    pub(super) runs: bool,
    pub(super) offset: u64,
    #[serde(with = "in_base64")]
    pub(super) bytes: Vec<u8>,
    pub(super) total: u64,
    pub(super) gap: Option<Gap>,
}

impl Part {
    /// The piece, if it is an answer to this request. A job may have put words into its worker's mouth.
    pub(super) fn into_answer(self, range: OutputRange) -> Option<OutputPart> {
        let Self { id: _, runs, offset, bytes, total, gap } = self;
        let sound = runs
            && offset >= range.offset
            && bytes.len() <= range.max
            && gap.is_none_or(|gap| gap.from < gap.to && gap.to <= total)
            && (bytes.is_empty() || offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= total));
        sound.then_some(OutputPart { offset, bytes, total, gap, ended: false })
    }
}

/// [`End`] as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WireEnd {
    Code(i32),
    Signal(i32),
    NotStarted(String),
    HostFault(String),
    OverLimit(String),
}

impl Finished {
    /// The job and its result, heard at `now`.
    pub(super) fn into_result(self, now: Time) -> (String, JobResult) {
        let end = match self.end {
            WireEnd::Code(code) => End::Exited(Exit::Code(code)),
            WireEnd::Signal(signal) => End::Exited(Exit::Signal(signal)),
            WireEnd::NotStarted(why) => End::NotStarted(why),
            WireEnd::HostFault(why) => End::HostFault(why),
            WireEnd::OverLimit(why) => End::OverLimit(why),
        };
        let times = self.span.map(|Span { ran_ms, ended_ago_ms, .. }| {
            RunTimes::before(now, Duration::from_millis(ended_ago_ms), Duration::from_millis(ran_ms))
        });
        let output = Output {
            stdout: kept(self.stdout, self.stdout_gap),
            stderr: kept(self.stderr, self.stderr_gap),
            truncated: self.truncated,
        };
        (self.job, JobResult { end, output, times, interrupted: self.interrupted })
    }
}

/// A stream as it was sent. A gap that does not follow from its bytes is none.
fn kept(bytes: Vec<u8>, gap: Option<Gap>) -> StreamOutput {
    let fits = |gap: &Gap| gap.from < gap.to && gap.from <= bytes.len() as u64 && gap.to <= i64::MAX as u64;
    StreamOutput { gap: gap.filter(fits), bytes }
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
            stdout_gap: Some(Gap { from: 1, to: 9 }),
            stderr_gap: None,
            span: Some(Span { ran_ms: 3, ended_at_ms: 4, ended_ago_ms: 5 }),
            interrupted: true,
        };
        let line = line(&FromWorker::Finished(result())).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let FromWorker::Finished(back) = serde_json::from_slice(&line).unwrap() else { panic!() };
        assert_eq!(back, result());
    }

    #[test]
    fn an_older_worker_is_understood() {
        let hello: FromWorker =
            serde_json::from_str(r#"{"hello": {"running": "j", "finished": ["k"]}}"#).unwrap();
        assert!(matches!(hello, FromWorker::Hello { version: 0, .. }));
        let line = r#"{"finished": {"job": "j", "end": {"code": 3}, "stdout": "YQ==", "stderr": "", "truncated": true}}"#;
        let FromWorker::Finished(old) = serde_json::from_str(line).unwrap() else { panic!() };
        let (job, result) = old.into_result(Time(9));
        let output = Output { stdout: b"a"[..].into(), truncated: true, ..Output::default() };
        let wanted = JobResult::new(End::Exited(Exit::Code(3)), output);
        assert_eq!((&*job, result), ("j", wanted));
        // A newer one may say more.
        let line = r#"{"hello": {"running": null, "finished": [], "version": 7, "mood": "fine"}}"#;
        assert!(matches!(serde_json::from_str(line), Ok(FromWorker::Hello { version: 7, .. })));
    }

    #[test]
    fn a_result_is_taken_as_far_as_it_makes_sense() {
        let result = |gap, span| Finished {
            job: "j".into(),
            end: WireEnd::Code(0),
            stdout: b"abcd".to_vec(),
            stderr: Vec::new(),
            truncated: true,
            stdout_gap: gap,
            stderr_gap: None,
            span,
            interrupted: false,
        };
        let gap = |from, to| Some(Gap { from, to });
        let gaps = [
            (None, None),
            (gap(0, 1), gap(0, 1)),
            (gap(4, 9), gap(4, 9)),
            (gap(5, 9), None),
            (gap(2, 2), None),
            (gap(3, 1), None),
            (gap(1, u64::MAX), None),
        ];
        for (said, kept) in gaps {
            assert_eq!(result(said, None).into_result(Time(0)).1.output.stdout.gap, kept, "{said:?}");
        }
        let span = |ran_ms, ended_ago_ms| Some(Span { ran_ms, ended_at_ms: 0, ended_ago_ms });
        for (span, started, finished) in [(span(0, 0), 1000, 1000), (span(30, 100), 870, 900)] {
            let times = result(None, span).into_result(Time(1000)).1.times.unwrap();
            assert_eq!((times.started, times.finished), (Time(started), Time(finished)), "{span:?}");
        }
        assert!(
            result(None, span(u64::MAX, u64::MAX)).into_result(Time(1000)).1.times.is_some(),
            "no overflow"
        );
    }

    #[test]
    fn a_part_that_is_no_answer_is_none() {
        let range = OutputRange { stream: pileus_model::JobStream::Stdout, offset: 5, max: 3 };
        let part = |runs, offset, bytes: &[u8], total, gap: Option<(u64, u64)>| Part {
            id: 1,
            runs,
            offset,
            bytes: bytes.to_vec(),
            total,
            gap: gap.map(|(from, to)| Gap { from, to }),
        };
        let cases = [
            ("what was asked", part(true, 5, b"abc", 8, None), true),
            ("nothing yet", part(true, 5, b"", 5, None), true),
            ("beyond the end", part(true, 5, b"", 2, None), true),
            ("from the gap's end", part(true, 7, b"a", 9, Some((4, 7))), true),
            ("it does not run", part(false, 5, b"abc", 8, None), false),
            ("before the offset", part(true, 4, b"abc", 8, None), false),
            ("too much", part(true, 5, b"abcd", 9, None), false),
            ("more than was written", part(true, 5, b"abc", 7, None), false),
            ("an offset that overflows", part(true, u64::MAX, b"a", u64::MAX, None), false),
            ("an empty gap", part(true, 5, b"a", 9, Some((4, 4))), false),
            ("a gap beyond the end", part(true, 5, b"a", 9, Some((4, 10))), false),
        ];
        for (what, part, sound) in cases {
            assert_eq!(part.into_answer(range).is_some(), sound, "{what}");
        }
    }
}
