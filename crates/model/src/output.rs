//! Output of a job: two streams, each with a head, a tail, and the gap between them.

use serde::{Deserialize, Serialize};

/// Stream that a job writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl JobStream {
    /// The name in paths: `stdout` or `stderr`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Bytes of a stream that were not kept: offsets `from..to`. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Offset of the first byte that is missing: the length of the head.
    pub from: u64,
    /// Offset of the first byte of the tail.
    pub to: u64,
}

impl Gap {
    /// Number of bytes that are missing.
    pub fn len(self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    /// `true` if nothing is missing.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// One stream of a job that has ended, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamOutput {
    /// The head, then the tail.
    pub bytes: Vec<u8>,
    /// Bytes left out between the two. `None`: all bytes are there.
    pub gap: Option<Gap>,
}

impl StreamOutput {
    /// Head and tail. The tail is empty without a gap.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        let head = self.gap.map_or(u64::MAX, |gap| gap.from);
        let head = usize::try_from(head).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.split_at_checked(head).unwrap_or((&self.bytes, &[]))
    }

    /// Number of bytes that the job wrote.
    pub fn total(&self) -> u64 {
        self.bytes.len() as u64 + self.gap.map_or(0, Gap::len)
    }
}

impl From<&[u8]> for StreamOutput {
    fn from(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), gap: None }
    }
}

/// Output of a job that has ended. It is stored beside the state and fetched on its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Output {
    /// Standard output.
    pub stdout: StreamOutput,
    /// Standard error.
    pub stderr: StreamOutput,
    /// `true` if bytes of either stream are missing, in a gap or at the end.
    pub truncated: bool,
}

impl Output {
    /// Returns one stream.
    pub fn stream(&self, stream: JobStream) -> &StreamOutput {
        match stream {
            JobStream::Stdout => &self.stdout,
            JobStream::Stderr => &self.stderr,
        }
    }
}

/// Request for a piece of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRange {
    /// Stream that is read.
    pub stream: JobStream,
    /// Offset of the first byte in the stream.
    pub offset: u64,
    /// Most bytes that are returned.
    pub max: usize,
}

/// Contiguous piece of a stream, and the state of the stream at that moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputPart {
    /// Offset of the first byte: as requested, or the end of the gap where the requested one lies in the gap.
    pub offset: u64,
    /// The bytes. Empty where there are none at the offset yet, or any more.
    pub bytes: Vec<u8>,
    /// Number of bytes that the job wrote so far.
    pub total: u64,
    /// Bytes that are not kept. Its end moves as long as the job writes.
    pub gap: Option<Gap>,
    /// `true` if `total` is final.
    pub ended: bool,
}

impl OutputPart {
    /// Returns the piece of a stream that consists of `head`, the gap and `tail`. `tail` is given in one or two
    /// slices, as a ring buffer has it.
    pub fn cut(
        head: &[u8],
        gap: Option<Gap>,
        tail: [&[u8]; 2],
        range: OutputRange,
        ended: bool,
    ) -> OutputPart {
        let tail_at = gap.map_or(head.len() as u64, |gap| gap.to);
        let total = tail_at + tail.iter().map(|part| part.len() as u64).sum::<u64>();
        let in_gap = gap.is_some_and(|gap| (gap.from..gap.to).contains(&range.offset));
        let offset = if in_gap { tail_at } else { range.offset };
        let mut bytes = Vec::new();
        // The head alone ends at a gap: a piece is contiguous.
        let slices = if gap.is_some() && offset < head.len() as u64 {
            [(0, head), (tail_at, &[][..]), (tail_at, &[])]
        } else {
            [(0, head), (tail_at, tail[0]), (tail_at + tail[0].len() as u64, tail[1])]
        };
        let mut at = offset;
        for (start, slice) in slices {
            let skip = at.checked_sub(start).and_then(|skip| usize::try_from(skip).ok());
            let rest = skip.and_then(|skip| slice.get(skip..)).unwrap_or_default();
            let taken = rest.iter().take(range.max.saturating_sub(bytes.len()));
            bytes.extend(taken);
            at = offset + bytes.len() as u64;
        }
        OutputPart { offset, bytes, total, gap, ended }
    }

    /// Offset after the last byte of this piece.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_contiguous_and_an_offset_in_the_gap_moves_to_its_end() {
        let gap = Some(Gap { from: 4, to: 10 });
        let cases = [
            ("from the start", gap, 0, 100, 0, "head"),
            ("inside the head", gap, 3, 100, 3, "d"),
            ("first of the gap", gap, 4, 100, 10, "tail"),
            ("last of the gap", gap, 9, 100, 10, "tail"),
            ("first of the tail", gap, 10, 3, 10, "tai"),
            ("across the ring's seam", gap, 11, 100, 11, "ail"),
            ("behind the seam", gap, 13, 100, 13, "l"),
            ("at the end", gap, 14, 100, 14, ""),
            ("beyond the end", gap, 900, 100, 900, ""),
            ("as far as it goes", gap, u64::MAX, 100, u64::MAX, ""),
            ("no gap: head and tail are one", None, 2, 100, 2, "adtail"),
            ("no gap, a few", None, 3, 3, 3, "dta"),
            ("nothing wanted", gap, 0, 0, 0, ""),
        ];
        for (what, gap, offset, max, at, bytes) in cases {
            let range = OutputRange { stream: JobStream::Stdout, offset, max };
            let part = OutputPart::cut(b"head", gap, [b"tai", b"l"], range, false);
            assert_eq!((part.offset, &*part.bytes), (at, bytes.as_bytes()), "{what}");
            assert_eq!(part.total, if gap.is_some() { 14 } else { 8 }, "{what}");
        }
    }

    #[test]
    fn head_and_tail_are_told_apart() {
        let gap = Gap { from: 2, to: 7 };
        let cases = [
            (StreamOutput { bytes: b"abcd".to_vec(), gap: Some(gap) }, &b"ab"[..], &b"cd"[..], 9),
            (StreamOutput::from(&b"abcd"[..]), b"abcd", b"", 4),
            (StreamOutput { bytes: b"a".to_vec(), gap: Some(gap) }, b"a", b"", 6),
        ];
        for (stream, head, tail, total) in cases {
            assert_eq!((stream.parts(), stream.total()), ((head, tail), total), "{stream:?}");
        }
    }
}
