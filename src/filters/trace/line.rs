//! Line of the access log, formatted straight into bytes.
//!
//! What a request says of itself is written when it comes; what its answer says, when it goes. So no
//! part of the request is copied for the log, and nothing is formatted twice. Everything that a client or
//! an identity service chose is escaped: a line is one line, and JSON stays JSON.

use std::{cell::Cell, io::Write};

use http::{StatusCode, Version, header};
use pileus_sdk::{Peer, Request, Seen};
use serde::Deserialize;

use crate::filters::request_id;

/// Format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `key=value`, in the manner of the general log.
    Text,
    /// One JSON object, in the manner of the general log.
    Json,
    /// NCSA Common Log Format.
    Common,
    /// The same with referrer, which is always `-`, and user agent.
    Combined,
}

/// Fields of the answer.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// `None` if the client hung up before there was an answer.
    pub status: Option<StatusCode>,
    /// Bytes of the body.
    pub bytes: u64,
    /// End of the request, in microseconds since 1970.
    pub end_us: i64,
    /// Time from the beginning of the request, in microseconds.
    pub duration_us: u64,
}

/// Status of a request whose client hung up, where a format has no other word for it. nginx made it common.
const HUNG_UP: u64 = 499;

const TEXT: &[u8] = b"0000-00-00T00:00:00.000000Z  INFO access: request answered";
const JSON: (&[u8], &[u8]) =
    (b"{\"timestamp\":\"", b"Z\",\"level\":\"INFO\",\"fields\":{\"message\":\"request answered\"");

/// Line that is not complete yet.
#[derive(Debug)]
pub struct Line {
    format: Format,
    bytes: Vec<u8>,
    /// Bytes up to the user agent, in the formats that put it behind the answer.
    head: usize,
}

/// Writes a field: `key` is a literal, so that key and marks are one copy of known length.
macro_rules! field {
    ($line:ident, $key:literal, string $value:expr) => {
        $line.key(concat!(" ", $key, "=\"").as_bytes(), concat!(",\"", $key, "\":\"").as_bytes());
        $line.escaped($value);
        $line.bytes.push(b'"');
    };
    ($line:ident, $key:literal, word $value:expr) => {
        $line.key(concat!(" ", $key, "=\"").as_bytes(), concat!(",\"", $key, "\":\"").as_bytes());
        $line.bytes.extend_from_slice($value);
        $line.bytes.push(b'"');
    };
    ($line:ident, $key:literal, number $value:expr) => {
        $line.key(concat!(" ", $key, "=").as_bytes(), concat!(",\"", $key, "\":").as_bytes());
        number(&mut $line.bytes, $value);
    };
}

impl Line {
    /// Begins the line of a request.
    pub fn of(format: Format, request: &Request) -> Self {
        let mut line = Self { format, bytes: spare(), head: 0 };
        let (mut agent, mut global) = (None, None);
        for (name, value) in request.headers() {
            if *name == header::USER_AGENT {
                agent = agent.or(Some(value.as_bytes()));
            } else if *name == request_id::OPENSTACK {
                global = global.or_else(|| request_id::is_id(value.as_bytes()).then_some(value.as_bytes()));
            }
        }
        match format {
            Format::Text | Format::Json => line.describe(request, global, agent),
            Format::Common | Format::Combined => line.describe_as_ncsa(request, agent),
        }
        line
    }

    fn describe(&mut self, request: &Request, global: Option<&[u8]>, agent: Option<&[u8]>) {
        let line = self;
        let context = request.context();
        match line.format {
            Format::Json => {
                line.bytes.extend_from_slice(JSON.0);
                line.bytes.extend_from_slice(&TEXT[..26]);
                line.bytes.extend_from_slice(JSON.1);
            }
            _ => line.bytes.extend_from_slice(TEXT),
        }
        field!(line, "request.id", word context.request_id.as_bytes());
        if let Some(global) = global {
            field!(line, "request.global_id", word global);
        }
        field!(line, "method", word request.method().as_str().as_bytes());
        field!(line, "path", string request.uri().path().as_bytes());
        field!(line, "protocol", word protocol(request.version()));
        let connection = context.connection.as_deref();
        if let Some(connection) = connection {
            field!(line, "listener", string connection.listener.as_bytes());
        }
        line.key(b" peer=", b",\"peer\":\"");
        peer(&mut line.bytes, &context.peer);
        line.key(b"", b"\"");
        if let Some(agent) = agent {
            field!(line, "user_agent", string agent);
        }
        if let Some(name) = connection.and_then(|connection| connection.client_cert.as_deref()) {
            field!(line, "client_cert", string name.as_bytes());
        }
    }

    /// `192.0.2.1 - "GET /v2 HTTP/1.1"`, then the user agent: `finish` puts the rest between them.
    #[inline(never)]
    fn describe_as_ncsa(&mut self, request: &Request, agent: Option<&[u8]>) {
        match request.context().peer {
            Peer::Address(address) => drop(write!(self.bytes, "{}", address.ip())),
            other => drop(write!(self.bytes, "{other}")),
        }
        self.bytes.extend_from_slice(b" - \"");
        self.bytes.extend_from_slice(request.method().as_str().as_bytes());
        self.bytes.push(b' ');
        self.escaped(request.uri().path().as_bytes());
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(protocol(request.version()));
        self.bytes.push(b'"');
        self.head = self.bytes.len();
        if self.format == Format::Combined {
            self.bytes.extend_from_slice(b" \"-\" \"");
            self.escaped(agent.unwrap_or(b"-"));
            self.bytes.push(b'"');
        }
    }

    /// Completes the line and hands it to `write`.
    pub fn finish(mut self, seen: &Seen, outcome: &Outcome, write: impl FnOnce(&[u8])) {
        match self.format {
            Format::Text | Format::Json => self.conclude(seen, outcome),
            Format::Common | Format::Combined => self.conclude_as_ncsa(seen, outcome),
        }
        write(&self.bytes);
        keep(self.bytes);
    }

    fn conclude(&mut self, seen: &Seen, outcome: &Outcome) {
        let line = self;
        let json = line.format == Format::Json;
        if let Some(route) = seen.route.get() {
            field!(line, "route", string route.path.as_bytes());
        }
        if let Some(status) = outcome.status {
            field!(line, "status", number status.as_u16().into());
        }
        field!(line, "duration_us", number outcome.duration_us);
        if outcome.status.is_some() {
            field!(line, "bytes", number outcome.bytes);
        }
        if let Some(caller) = seen.caller.get() {
            field!(line, "user.id", string caller.user.as_bytes());
            field!(line, "project.id", string caller.project.as_bytes());
        }
        line.bytes.extend_from_slice(if json { b"},\"target\":\"access\"}\n" } else { b"\n" });
        let start = if json { JSON.0.len() } else { 0 };
        let seconds = outcome.end_us.div_euclid(1_000_000);
        if let Some(place) = line.bytes.get_mut(start..start + 26) {
            place[..19].copy_from_slice(&second(seconds));
            let mut micros = outcome.end_us.rem_euclid(1_000_000);
            for digit in place[20..].iter_mut().rev() {
                *digit = b'0' + (micros % 10) as u8;
                micros /= 10;
            }
        }
        if outcome.status.is_none() {
            line.abandon(start);
        }
    }

    /// `answered` becomes `abandoned`.
    #[cold]
    fn abandon(&mut self, start: usize) {
        let word = b"answered";
        let mut words = self.bytes.windows(word.len()).skip(start);
        if let Some(at) = words.position(|it| it == word).map(|at| at + start) {
            self.bytes.splice(at..at + word.len(), *b"abandoned");
        }
    }

    #[inline(never)]
    fn conclude_as_ncsa(&mut self, seen: &Seen, outcome: &Outcome) {
        let bytes = std::mem::take(&mut self.bytes);
        let (request, agent) = bytes.split_at(self.head);
        let start = request.iter().position(|byte| *byte == b'"').unwrap_or_default();
        let (peer, request) = request.split_at(start);
        self.bytes.extend_from_slice(peer);
        match seen.caller.get() {
            // A blank would be read as the end of the name.
            Some(caller) => {
                let start = self.bytes.len();
                self.escaped(caller.user.as_bytes());
                let blanks = self.bytes.iter_mut().skip(start).filter(|byte| **byte == b' ');
                blanks.for_each(|byte| *byte = b'_');
            }
            None => self.bytes.push(b'-'),
        }
        let time = jiff::Timestamp::from_microsecond(outcome.end_us).unwrap_or_default();
        drop(write!(self.bytes, " [{}] ", time.strftime("%d/%b/%Y:%H:%M:%S +0000")));
        self.bytes.extend_from_slice(request);
        self.bytes.push(b' ');
        number(&mut self.bytes, outcome.status.map_or(HUNG_UP, |status| status.as_u16().into()));
        self.bytes.push(b' ');
        number(&mut self.bytes, outcome.bytes);
        self.bytes.extend_from_slice(agent);
        self.bytes.push(b'\n');
    }

    #[inline(always)]
    fn key(&mut self, text: &'static [u8], json: &'static [u8]) {
        match self.format {
            Format::Json => self.bytes.extend_from_slice(json),
            _ => self.bytes.extend_from_slice(text),
        }
    }

    fn escaped(&mut self, value: &[u8]) {
        // Without a way out of the loop, several bytes are looked at with one instruction.
        let odd = |byte: &u8| (*byte < b' ') | (*byte >= 0x7f) | (*byte == b'"') | (*byte == b'\\');
        if value.iter().fold(false, |any, byte| any | odd(byte)) {
            self.escape(value);
        } else {
            self.bytes.extend_from_slice(value);
        }
    }

    #[cold]
    fn escape(&mut self, value: &[u8]) {
        let out = &mut self.bytes;
        match self.format {
            Format::Text => {
                for chunk in value.utf8_chunks() {
                    drop(write!(out, "{}", chunk.valid().escape_debug()));
                    chunk.invalid().iter().for_each(|byte| drop(write!(out, "\\x{byte:02X}")));
                }
            }
            Format::Json => {
                let quoted = serde_json::to_vec(&String::from_utf8_lossy(value)).unwrap_or_default();
                out.extend_from_slice(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
            }
            Format::Common | Format::Combined => {
                for byte in value {
                    match byte {
                        b' '..0x7f if !matches!(byte, b'"' | b'\\') => out.push(*byte),
                        _ => drop(write!(out, "\\x{byte:02X}")),
                    }
                }
            }
        }
    }
}

fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_11 => b"HTTP/1.1",
        Version::HTTP_2 => b"HTTP/2.0",
        Version::HTTP_10 => b"HTTP/1.0",
        Version::HTTP_09 => b"HTTP/0.9",
        _ => b"HTTP/3.0",
    }
}

fn peer(out: &mut Vec<u8>, peer: &Peer) {
    // The usual form, without the machinery of formatting.
    let Peer::Address(std::net::SocketAddr::V4(address)) = peer else {
        return drop(write!(out, "{peer}"));
    };
    let mut mark = None;
    for part in address.ip().octets() {
        out.extend(mark);
        number(out, part.into());
        mark = Some(b'.');
    }
    out.push(b':');
    number(out, address.port().into());
}

/// Writes a number. Most have at most three digits: those are copies of known length.
fn number(out: &mut Vec<u8>, number: u64) {
    let digit = |value: u64| b'0' + (value % 10) as u8;
    match number {
        0..10 => out.push(digit(number)),
        10..100 => out.extend_from_slice(&[digit(number / 10), digit(number)]),
        100..1000 => out.extend_from_slice(&[digit(number / 100), digit(number / 10), digit(number)]),
        _ => long_number(out, number),
    }
}

#[inline(never)]
fn long_number(out: &mut Vec<u8>, mut number: u64) {
    let (mut digits, mut length) = ([0; 20], 0);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        (number, length) = (number / 10, length + 1);
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[digits.len() - length..]);
}

/// Returns `2011-07-21T18:03:46`. Formatted once a second in each thread.
fn second(second: i64) -> [u8; 19] {
    thread_local! {
        static LAST: Cell<(i64, [u8; 19])> = const { Cell::new((i64::MIN, [b'0'; 19])) };
    }
    let (last, text) = LAST.get();
    if last == second {
        return text;
    }
    let text = format_second(second);
    LAST.set((second, text));
    text
}

#[cold]
fn format_second(second: i64) -> [u8; 19] {
    let text = jiff::Timestamp::from_second(second).unwrap_or_default().to_string();
    text.as_bytes().first_chunk().copied().unwrap_or([b'0'; 19])
}

/// Room for a line to begin with, in bytes.
const ROOM: usize = 512;

/// Room that is kept for the next line at most, in bytes: one long line must not stay for ever.
const KEPT: usize = 16 << 10;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Returns the bytes of a line that is written, to be used again.
fn spare() -> Vec<u8> {
    let mut bytes = SPARE.take();
    bytes.reserve(ROOM);
    bytes
}

fn keep(mut bytes: Vec<u8>) {
    if bytes.capacity() <= KEPT {
        bytes.clear();
        SPARE.set(bytes);
    }
}

#[cfg(test)]
mod tests;
