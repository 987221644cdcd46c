//! Frames of an HTTP/2 connection, read as they pass the socket: which streams are open, and which of them
//! wait for their client.
//!
//! A client that leaves no room for an answer (flow control), and sends a ping now and then, looks alive to
//! the socket and to hyper. So the time-outs of such a connection follow its requests: it is idle while no
//! stream is open, and a stream waits for its client while it has headers of an answer, no end, and no room.
//! Source: RFC 9113, §4.1, §5.2, §6.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::guard::Patience;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
/// Of SETTINGS.
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;

/// Room for data before anything else is said, in bytes.
const INITIAL_WINDOW: i64 = 65_535;

/// Requests and answers of a connection, as far as time-outs need them.
#[derive(Debug)]
pub struct Frames {
    input: Reader,
    output: Reader,
    /// Streams of requests whose answer has not ended.
    streams: BTreeMap<u32, Stream>,
    /// The newest stream: its number, and those below, begin no other one.
    newest: u32,
    /// Room that the client leaves on the connection, and on a new stream, in bytes.
    window: i64,
    initial_window: i64,
    /// `true` while a block of headers has begun and not ended.
    in_head: bool,
    /// `true` if something has changed since the last [`Self::deadline`].
    changed: bool,
    /// Begin of the block of headers, and of the time without a stream.
    head_since: Option<Instant>,
    idle_since: Option<Instant>,
}

#[derive(Debug)]
struct Stream {
    /// Room that the client leaves, in bytes; below zero after it has taken some back.
    window: i64,
    /// `true` once headers were sent.
    answered: bool,
    /// `true` if data was sent since the last look.
    moved: bool,
    /// Begin of the time without room.
    waits_since: Option<Instant>,
}

impl Frames {
    /// Frames of a connection whose preface was read.
    pub fn new() -> Self {
        Self {
            input: Reader::default(),
            output: Reader::default(),
            streams: BTreeMap::new(),
            newest: 0,
            window: INITIAL_WINDOW,
            initial_window: INITIAL_WINDOW,
            in_head: false,
            changed: true,
            head_since: None,
            idle_since: None,
        }
    }

    /// Takes note of bytes that the client has sent.
    pub fn received(&mut self, bytes: &[u8]) {
        let mut reader = std::mem::take(&mut self.input);
        reader.read(bytes, |part| self.receive(part));
        self.input = reader;
    }

    /// Takes note of bytes that were sent to the client.
    pub fn sent(&mut self, bytes: &[u8]) {
        let mut reader = std::mem::take(&mut self.output);
        reader.read(bytes, |part| self.send(part));
        self.output = reader;
    }

    /// `true` if the deadline may have moved.
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// The time at which the client has kept the connection waiting for too long; `None` while requests are
    /// being answered. Asks for the time only if something has changed.
    pub fn deadline(&mut self, patience: &Patience, now: impl FnOnce() -> Instant) -> Option<Instant> {
        if self.changed {
            self.changed = false;
            self.look(now());
        }
        let after = |since: Option<Instant>, limit: Duration| since.map(|since| since + limit);
        let waits = self.streams.values().filter_map(|stream| stream.waits_since).min();
        let head = after(self.head_since, patience.header);
        let idle = if self.in_head { None } else { after(self.idle_since, patience.idle) };
        [head, idle, after(waits, patience.write)].into_iter().flatten().min()
    }

    fn look(&mut self, now: Instant) {
        let since = |holds: bool, since: Option<Instant>| holds.then(|| since.unwrap_or(now));
        self.head_since = since(self.in_head, self.head_since);
        self.idle_since = since(self.streams.is_empty(), self.idle_since);
        let full = self.window <= 0;
        for stream in self.streams.values_mut() {
            let waits = stream.answered && (full || stream.window <= 0);
            let before = stream.waits_since.filter(|_| !stream.moved);
            (stream.moved, stream.waits_since) = (false, since(waits, before));
        }
    }

    fn receive(&mut self, part: Part) {
        match part {
            Part::Begin(Head { kind: HEADERS, stream, .. }) => {
                self.in_head = true;
                if stream > self.newest {
                    self.newest = stream;
                    let window = self.initial_window;
                    let begun = Stream { window, answered: false, moved: false, waits_since: None };
                    self.streams.insert(stream, begun);
                }
            }
            Part::End(Head { kind: HEADERS | CONTINUATION, flags, .. }) if flags & END_HEADERS != 0 => {
                self.in_head = false;
            }
            Part::Begin(Head { kind: RST_STREAM, stream, .. }) => drop(self.streams.remove(&stream)),
            Part::Piece(Head { kind: SETTINGS, flags, .. }, [a, b, c, d, e, f]) if flags & ACK == 0 => {
                if u16::from_be_bytes([a, b]) != SETTINGS_INITIAL_WINDOW_SIZE {
                    return;
                }
                let initial = i64::from(u32::from_be_bytes([c, d, e, f]));
                for stream in self.streams.values_mut() {
                    stream.window += initial - self.initial_window;
                }
                self.initial_window = initial;
            }
            Part::Piece(Head { kind: WINDOW_UPDATE, stream, .. }, [a, b, c, d, ..]) => {
                let more = i64::from(u32::from_be_bytes([a & 0x7f, b, c, d]));
                match stream {
                    0 => self.window += more,
                    stream => {
                        if let Some(stream) = self.streams.get_mut(&stream) {
                            stream.window += more;
                        }
                    }
                }
            }
            Part::Begin(_) | Part::Piece(..) | Part::End(_) => return,
        }
        self.changed = true;
    }

    fn send(&mut self, part: Part) {
        let Part::Begin(Head { length, kind, flags, stream }) = part else { return };
        match kind {
            DATA => {
                self.window -= i64::from(length);
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.window -= i64::from(length);
                    stream.moved |= length > 0;
                }
            }
            HEADERS => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.answered = true;
                }
            }
            RST_STREAM => {}
            _ => return,
        }
        if kind == RST_STREAM || flags & END_STREAM != 0 {
            self.streams.remove(&stream);
        }
        self.changed = true;
    }
}

/// Head of a frame.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn parse(bytes: [u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = bytes;
        let (length, stream) = (u32::from_be_bytes([0, a, b, c]), u32::from_be_bytes([d & 0x7f, e, f, g]));
        Self { length, kind, flags, stream }
    }

    /// Bytes of a piece of the payload; `None` where the payload makes no difference.
    fn piece(&self) -> Option<usize> {
        match self.kind {
            SETTINGS => Some(6),
            WINDOW_UPDATE => Some(4),
            _ => None,
        }
    }
}

/// Bytes of a frame's head.
const HEAD_BYTES: usize = 9;

#[derive(Debug, Clone, Copy)]
enum Part {
    /// Head of a frame.
    Begin(Head),
    /// A setting, or a number that fills the first four bytes.
    Piece(Head, [u8; 6]),
    /// End of its payload.
    End(Head),
}

/// Reader of frames in one direction, in whatever pieces they come.
#[derive(Debug, Default)]
struct Reader {
    /// The frame whose payload is read; `None`: a head is.
    head: Option<Head>,
    /// Bytes of its payload that are left.
    left: usize,
    /// Bytes of the head or of the piece, as far as they are there.
    bytes: [u8; HEAD_BYTES],
    filled: usize,
}

impl Reader {
    fn read(&mut self, mut bytes: &[u8], mut note: impl FnMut(Part)) {
        while !bytes.is_empty() {
            let Some(head) = self.head else {
                if self.fill(&mut bytes, HEAD_BYTES) {
                    self.filled = 0;
                    let head = Head::parse(self.bytes);
                    self.left = head.length as usize;
                    note(Part::Begin(head));
                    self.head = Some(head);
                    self.end(&mut note);
                }
                continue;
            };
            let before = bytes.len();
            match head.piece() {
                Some(length) => {
                    let mut limited = bytes.get(..self.left).unwrap_or(bytes);
                    let there = limited.len();
                    if self.fill(&mut limited, length) {
                        self.filled = 0;
                        let [a, b, c, d, e, f, ..] = self.bytes;
                        note(Part::Piece(head, [a, b, c, d, e, f]));
                    }
                    bytes = bytes.get(there - limited.len()..).unwrap_or_default();
                }
                None => bytes = bytes.get(self.left..).unwrap_or_default(),
            }
            self.left -= before - bytes.len();
            self.end(&mut note);
        }
    }

    /// Ends the frame if nothing of it is left.
    fn end(&mut self, note: &mut impl FnMut(Part)) {
        if self.left == 0
            && let Some(head) = self.head.take()
        {
            self.filled = 0;
            note(Part::End(head));
        }
    }

    /// Moves bytes until `length` are there; `true` if they are.
    fn fill(&mut self, bytes: &mut &[u8], length: usize) -> bool {
        let wanted = length.saturating_sub(self.filled).min(bytes.len());
        let (now, later) = bytes.split_at(wanted);
        if let Some(room) = self.bytes.get_mut(self.filled..self.filled + wanted) {
            room.copy_from_slice(now);
        }
        self.filled += wanted;
        *bytes = later;
        self.filled >= length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Patience = Patience {
        idle: SECOND.saturating_mul(75),
        header: SECOND.saturating_mul(15),
        write: SECOND.saturating_mul(60),
    };

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        [head, payload.to_vec()].concat()
    }

    fn window(stream: u32, more: u32) -> Vec<u8> {
        frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
    }

    fn initial(window: u32) -> Vec<u8> {
        // Another setting stands before it.
        frame(SETTINGS, 0, 0, &[&[0, 3, 0, 0, 0, 9, 0, 4], &window.to_be_bytes()[..]].concat())
    }

    /// Bytes in one direction.
    enum Pass {
        In(Vec<u8>),
        Out(Vec<u8>),
    }
    use Pass::{In, Out};

    #[test]
    fn time_outs_follow_requests() {
        let ping = || frame(6, 0, 0, &[0; 8]);
        let ask = |stream| In(frame(HEADERS, END_HEADERS | END_STREAM, stream, b"get"));
        let begin = |stream| Out(frame(HEADERS, END_HEADERS, stream, b"200"));
        let data = |stream, length| Out(frame(DATA, 0, stream, &vec![0; length]));
        let end = |stream| Out(frame(DATA, END_STREAM, stream, b""));
        let whole = |stream| Out(frame(HEADERS, END_HEADERS | END_STREAM, stream, b"204"));
        let (idle, header, write) = (75, 15, 60);
        // What passes, one step a second; the second at which it is too late after all of it.
        let cases: Vec<(&str, Vec<Pass>, Option<u64>)> = vec![
            ("nothing", vec![], Some(idle)),
            (
                "pings",
                vec![In(ping()), Out(ping()), In(ping()), In(initial(9)), In(window(0, 9))],
                Some(idle),
            ),
            ("a request", vec![ask(1)], None),
            ("a request and pings", vec![ask(1), In(ping()), Out(ping())], None),
            ("an answer without content", vec![ask(1), whole(1), In(ping()), Out(ping())], Some(1 + idle)),
            ("an answer", vec![ask(1), begin(1), data(1, 100), end(1), In(ping())], Some(3 + idle)),
            ("an answer that goes on", vec![ask(1), begin(1), data(1, 100), In(ping())], None),
            (
                "no room from the start",
                vec![In(initial(0)), ask(1), begin(1), In(ping()), Out(ping())],
                Some(2 + write),
            ),
            ("no answer yet, and no room", vec![In(initial(0)), ask(1), In(ping())], None),
            (
                "no room left",
                vec![In(initial(100)), ask(1), begin(1), data(1, 100), In(ping())],
                Some(3 + write),
            ),
            ("room again", vec![In(initial(100)), ask(1), begin(1), data(1, 100), In(window(1, 1))], None),
            (
                "a byte of room, taken",
                vec![In(initial(0)), ask(1), begin(1), In(window(1, 1)), data(1, 1)],
                Some(4 + write),
            ),
            (
                "room taken back",
                vec![ask(1), begin(1), data(1, 100), In(initial(50)), In(ping())],
                Some(3 + write),
            ),
            ("room given to all", vec![In(initial(0)), ask(1), begin(1), In(initial(50)), In(ping())], None),
            (
                "no room on the connection",
                vec![In(initial(1 << 20)), ask(1), begin(1), data(1, 65_535), In(window(1, 9))],
                Some(3 + write),
            ),
            (
                "room on the connection",
                vec![In(initial(1 << 20)), ask(1), begin(1), data(1, 65_535), In(window(0, 9))],
                None,
            ),
            (
                "one stream of two waits",
                vec![In(initial(10)), ask(1), ask(3), begin(1), begin(3), data(1, 10), data(3, 9)],
                Some(5 + write),
            ),
            (
                "given up by the client",
                vec![In(initial(0)), ask(1), begin(1), In(frame(RST_STREAM, 0, 1, &[0; 4])), In(ping())],
                Some(3 + idle),
            ),
            (
                "given up by the server",
                vec![In(initial(0)), ask(1), Out(frame(RST_STREAM, 0, 1, &[0; 4])), In(ping())],
                Some(2 + idle),
            ),
            (
                "half a head",
                vec![In(frame(HEADERS, 0, 1, b"ge")), In(frame(CONTINUATION, 0, 1, b"t"))],
                Some(header),
            ),
            (
                "a head in two parts",
                vec![In(frame(HEADERS, 0, 1, b"ge")), In(frame(CONTINUATION, END_HEADERS, 1, b"t"))],
                None,
            ),
            ("half a frame", vec![In(frame(HEADERS, END_HEADERS, 1, b"get")[..11].to_vec())], Some(header)),
            (
                "trailers",
                vec![ask(3), In(frame(HEADERS, END_HEADERS | END_STREAM, 3, b"")), whole(3)],
                Some(2 + idle),
            ),
            ("an old number", vec![ask(3), whole(3), ask(1)], Some(1 + idle)),
            (
                "an acknowledgement",
                vec![ask(1), begin(1), In(frame(SETTINGS, ACK, 0, &[])), In(ping())],
                None,
            ),
        ];
        // Split as they come from the socket.
        for size in [usize::MAX, 10, 7, 1] {
            for (what, steps, expected) in &cases {
                let start = super::super::guard::now();
                let mut frames = Frames::new();
                let mut deadline = frames.deadline(&PATIENCE, || start);
                for (second, step) in (0..).zip(steps) {
                    let (In(bytes) | Out(bytes)) = step;
                    for part in bytes.chunks(size) {
                        match step {
                            In(_) => frames.received(part),
                            Out(_) => frames.sent(part),
                        }
                    }
                    deadline = frames.deadline(&PATIENCE, || start + Duration::from_secs(second));
                }
                let found = deadline.map(|deadline| (deadline - start).as_secs());
                assert_eq!(found, *expected, "{what}, {size} bytes at a time");
            }
        }
    }
}
