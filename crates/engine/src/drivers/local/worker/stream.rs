//! One stream of a job: read until its end, kept as a head and a tail, readable while it grows.
//!
//! Half of the limit is the head, half is the tail. Bytes between the two are read to keep the job going, and
//! dropped. Nothing is sent from here: a reader asks for a piece.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pileus_model::{Gap, OutputPart, OutputRange};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Time that the rest of a stream may take, once nothing of its job runs.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Bytes that are read from a job at a time.
const CHUNK: usize = 32 << 10;

/// Bytes of a stream that are kept.
#[derive(Debug, Default)]
struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    head_max: usize,
    tail_max: usize,
    total: u64,
}

impl Capture {
    /// An empty one that keeps `max` bytes.
    fn new(max: usize) -> Self {
        Self { head_max: max.div_ceil(2), tail_max: max / 2, ..Self::default() }
    }

    fn push(&mut self, chunk: &[u8]) {
        self.total += chunk.len() as u64;
        let room = self.head_max.saturating_sub(self.head.len()).min(chunk.len());
        let Some((first, rest)) = chunk.split_at_checked(room) else { return };
        self.head.extend_from_slice(first);
        let rest = rest.get(rest.len().saturating_sub(self.tail_max)..).unwrap_or_default();
        let surplus = (self.tail.len() + rest.len()).saturating_sub(self.tail_max);
        self.tail.drain(..surplus.min(self.tail.len()));
        self.tail.extend(rest);
    }

    fn gap(&self) -> Option<Gap> {
        let from = self.head.len() as u64;
        let to = self.total.saturating_sub(self.tail.len() as u64);
        (from < to).then_some(Gap { from, to })
    }

    fn part(&self, range: OutputRange) -> OutputPart {
        let (first, second) = self.tail.as_slices();
        OutputPart::cut(&self.head, self.gap(), [first, second], range, false)
    }
}

/// Stream of a job that runs, as its readers have it.
#[derive(Debug, Clone)]
pub(super) struct LiveStream {
    capture: Arc<Mutex<Capture>>,
    /// Number of bytes that were written; closed at the end of the stream.
    total: watch::Receiver<u64>,
}

impl LiveStream {
    /// The piece at an offset. Waits for up to `wait` while there is none. `None`: the stream has ended, and there is
    /// none.
    pub(super) async fn part(mut self, range: OutputRange, wait: Duration) -> Option<OutputPart> {
        let deadline = sleep(wait);
        tokio::pin!(deadline);
        loop {
            self.total.borrow_and_update();
            let ended = self.total.has_changed().is_err();
            let part = lock(&self.capture).part(range);
            if !part.bytes.is_empty() {
                return Some(part);
            }
            if ended {
                return None;
            }
            tokio::select! {
                _ = self.total.changed() => {}
                () = &mut deadline => return Some(part),
            }
        }
    }
}

/// Stream of a job, as its worker has it.
pub(super) struct Stream {
    live: LiveStream,
    reader: JoinHandle<()>,
}

/// Kept part of a stream that has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Head and tail.
    pub(super) bytes: Vec<u8>,
    /// Bytes between the two.
    pub(super) gap: Option<Gap>,
    /// `true` if the end of the stream was not reached.
    pub(super) cut: bool,
}

impl Stream {
    /// A stream of which `max` bytes are kept, and the end of it that a job writes to.
    pub(super) fn open(max: usize) -> io::Result<(Self, io::PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        let mut pipe = Receiver::from_owned_fd(reader.into())?;
        let capture = Arc::new(Mutex::new(Capture::new(max)));
        let into = capture.clone();
        let (written, total) = watch::channel(0);
        let reader = tokio::spawn(async move {
            let mut chunk = vec![0; CHUNK];
            while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
                lock(&into).push(chunk.get(..length).unwrap_or_default());
                written.send_modify(|total| *total += length as u64);
            }
        });
        Ok((Self { live: LiveStream { capture, total }, reader }, writer))
    }

    /// The same stream for readers.
    pub(super) fn live(&self) -> LiveStream {
        self.live.clone()
    }

    /// Ends the stream. Nothing of the job may run any more.
    pub(super) async fn finish(mut self) -> Kept {
        let ended = timeout(LAST_WORDS, &mut self.reader).await.is_ok();
        self.reader.abort();
        let capture = lock(&self.live.capture);
        let (first, second) = capture.tail.as_slices();
        let bytes = [&capture.head[..], first, second].concat();
        Kept { bytes, gap: capture.gap(), cut: !ended }
    }
}

fn lock(capture: &Mutex<Capture>) -> MutexGuard<'_, Capture> {
    capture.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use pileus_model::JobStream;

    use super::*;

    #[test]
    fn head_and_tail_are_kept_whatever_the_chunks() {
        let cases: [(usize, usize, Option<Gap>, &str); 9] = [
            (0, 6, None, ""),
            (5, 6, None, "01234"),
            (6, 6, None, "012345"),
            (7, 6, Some(Gap { from: 3, to: 4 }), "012456"),
            (10, 6, Some(Gap { from: 3, to: 7 }), "012789"),
            (10, 5, Some(Gap { from: 3, to: 8 }), "01289"),
            (10, 1, Some(Gap { from: 1, to: 10 }), "0"),
            (10, 0, Some(Gap { from: 0, to: 10 }), ""),
            (10, 100, None, "0123456789"),
        ];
        for (length, max, gap, kept) in cases {
            for step in 1..=length.max(1) {
                let mut capture = Capture::new(max);
                "0123456789".as_bytes()[..length].chunks(step).for_each(|chunk| capture.push(chunk));
                let bytes: Vec<u8> = capture.head.iter().chain(&capture.tail).copied().collect();
                assert_eq!((&*bytes, capture.gap()), (kept.as_bytes(), gap), "{length} of {max} by {step}");
                assert_eq!(capture.total, length as u64);
            }
        }
    }

    #[tokio::test]
    async fn a_reader_waits_for_what_comes_and_hears_of_the_end() {
        let (stream, mut writer) = Stream::open(8).unwrap();
        let live = || stream.live();
        let at = |offset| OutputRange { stream: JobStream::Stdout, offset, max: 100 };
        let long = Duration::from_secs(60);
        let none = live().part(at(0), Duration::ZERO).await.unwrap();
        assert_eq!((none.total, &*none.bytes), (0, &b""[..]));
        let (part, ()) = tokio::join!(live().part(at(0), long), async {
            tokio::task::yield_now().await;
            writer.write_all(b"abc").unwrap();
        });
        assert_eq!(part.unwrap().bytes, b"abc");
        let (part, ()) = tokio::join!(live().part(at(3), long), async {
            tokio::task::yield_now().await;
            writer.write_all(b"defghijkl").unwrap();
        });
        let part = part.unwrap();
        assert!(!part.bytes.is_empty() && part.offset >= 3, "{part:?}");
        let live = live();
        let (end, ()) = tokio::join!(live.part(at(12), long), async {
            tokio::task::yield_now().await;
            drop(writer);
        });
        assert_eq!(end, None);
        let gap = Some(Gap { from: 4, to: 8 });
        assert_eq!(stream.finish().await, Kept { bytes: b"abcdijkl".to_vec(), gap, cut: false });
    }
}
