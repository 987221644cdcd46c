//! Outputs of jobs in SQLite: a row for each job, two columns of bytes, and what was left out of each.

use pileus_model::{Gap, JobStream, Name, Output, OutputPart, OutputRange, StreamOutput};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// The table. `…_gap_from` and `…_gap_to` are both NULL where nothing is left out.
pub const TABLE: &str = "
    CREATE TABLE outputs (
        job TEXT PRIMARY KEY,
        stdout BLOB NOT NULL,
        stderr BLOB NOT NULL,
        truncated INTEGER NOT NULL,
        stdout_gap_from INTEGER,
        stdout_gap_to INTEGER,
        stderr_gap_from INTEGER,
        stderr_gap_to INTEGER
    ) STRICT, WITHOUT ROWID;
";

/// Columns that tables before version 3 do not have.
pub const GAPS: &str = "
    ALTER TABLE outputs ADD COLUMN stdout_gap_from INTEGER;
    ALTER TABLE outputs ADD COLUMN stdout_gap_to INTEGER;
    ALTER TABLE outputs ADD COLUMN stderr_gap_from INTEGER;
    ALTER TABLE outputs ADD COLUMN stderr_gap_to INTEGER;
";

/// Writes outputs; one that is there already is replaced.
pub fn put(db: &Connection, outputs: &[(Name, Output)]) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached(
        "INSERT OR REPLACE INTO outputs (job, stdout, stderr, truncated, stdout_gap_from, stdout_gap_to,
             stderr_gap_from, stderr_gap_to)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let ends = |gap: Option<Gap>| (gap.map(|it| it.from.cast_signed()), gap.map(|it| it.to.cast_signed()));
    for (job, Output { stdout, stderr, truncated }) in outputs {
        let (out, err) = (ends(stdout.gap), ends(stderr.gap));
        put.execute(params![&**job, stdout.bytes, stderr.bytes, truncated, out.0, out.1, err.0, err.1])?;
    }
    Ok(())
}

/// Returns an output of which each stream keeps at most `max` bytes of its head.
pub fn cut(output: &Output, max: usize) -> Output {
    let cut = |stream: &StreamOutput| {
        let length = stream.bytes.len() as u64;
        if length <= max as u64 {
            return stream.clone();
        }
        let head = stream.gap.map_or(length, |gap| gap.from).min(max as u64);
        let to = length.saturating_add(stream.gap.map_or(0, Gap::len));
        let kept = usize::try_from(head).unwrap_or(max).min(stream.bytes.len());
        StreamOutput { bytes: stream.bytes[..kept].to_vec(), gap: Some(Gap { from: head, to }) }
    };
    let (stdout, stderr) = (cut(&output.stdout), cut(&output.stderr));
    let truncated = output.truncated || stdout != output.stdout || stderr != output.stderr;
    Output { stdout, stderr, truncated }
}

/// Reads all of a job's output.
pub fn read(db: &Connection, job: &str) -> rusqlite::Result<Option<Output>> {
    let mut query = db.prepare_cached(
        "SELECT stdout, stderr, truncated, stdout_gap_from, stdout_gap_to, stderr_gap_from, stderr_gap_to
         FROM outputs WHERE job = ?1",
    )?;
    let output = |row: &Row<'_>| {
        Ok(Output {
            stdout: StreamOutput { bytes: row.get(0)?, gap: gap(row, 3)? },
            stderr: StreamOutput { bytes: row.get(1)?, gap: gap(row, 5)? },
            truncated: row.get(2)?,
        })
    };
    query.query_one(params![job], output).optional()
}

/// Reads a piece of one stream.
pub fn read_part(db: &Connection, job: &str, range: OutputRange) -> rusqlite::Result<Option<OutputPart>> {
    let (about, piece) = match range.stream {
        JobStream::Stdout => (
            "SELECT length(stdout), stdout_gap_from, stdout_gap_to FROM outputs WHERE job = ?1",
            "SELECT substr(stdout, ?2, ?3) FROM outputs WHERE job = ?1",
        ),
        JobStream::Stderr => (
            "SELECT length(stderr), stderr_gap_from, stderr_gap_to FROM outputs WHERE job = ?1",
            "SELECT substr(stderr, ?2, ?3) FROM outputs WHERE job = ?1",
        ),
    };
    let mut query = db.prepare_cached(about)?;
    let length = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?.cast_unsigned(), gap(row, 1)?));
    let Some((length, gap)) = query.query_one(params![job], length).optional()? else { return Ok(None) };
    let total = length.saturating_add(gap.map_or(0, Gap::len));
    // Start of the piece in the column, and how much of it is contiguous.
    let (offset, start, most) = match gap {
        Some(gap) if range.offset < gap.from => (range.offset, range.offset, gap.from - range.offset),
        Some(gap) if range.offset < gap.to => (gap.to, gap.from, u64::MAX),
        Some(gap) => (range.offset, range.offset - gap.to + gap.from, u64::MAX),
        None => (range.offset, range.offset, u64::MAX),
    };
    let most = most.min(range.max as u64).min(length.saturating_sub(start));
    let bytes = if most == 0 {
        Vec::new()
    } else {
        let at = (start + 1).cast_signed();
        db.prepare_cached(piece)?.query_one(params![job, at, most.cast_signed()], |row| row.get(0))?
    };
    Ok(Some(OutputPart { offset, bytes, total, gap, ended: true }))
}

/// The gap in two columns, the first of which is `at`.
fn gap(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Gap>> {
    let ends = (row.get::<_, Option<i64>>(at)?, row.get::<_, Option<i64>>(at + 1)?);
    let (Some(from), Some(to)) = ends else { return Ok(None) };
    let gap = Gap { from: from.cast_unsigned(), to: to.cast_unsigned() };
    Ok(Some(gap).filter(|gap| from >= 0 && !gap.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(TABLE).unwrap();
        db
    }

    #[test]
    fn a_piece_is_that_of_the_same_bytes_in_memory() {
        let db = table();
        let gap = Gap { from: 4, to: 10 };
        let outputs = [
            ("gap", StreamOutput { bytes: b"headtail".to_vec(), gap: Some(gap) }),
            ("no tail", StreamOutput { bytes: b"head".to_vec(), gap: Some(gap) }),
            ("no head", StreamOutput { bytes: b"tail".to_vec(), gap: Some(Gap { from: 0, to: 7 }) }),
            ("all", StreamOutput::from(&b"all\0of\xffit"[..])),
            ("none", StreamOutput::default()),
        ];
        for (job, kept) in outputs {
            for stream in [JobStream::Stdout, JobStream::Stderr] {
                let mut output = Output { truncated: kept.gap.is_some(), ..Output::default() };
                *(if stream == JobStream::Stdout { &mut output.stdout } else { &mut output.stderr }) =
                    kept.clone();
                put(&db, &[(job.into(), output.clone())]).unwrap();
                assert_eq!(read(&db, job).unwrap(), Some(output));
                for offset in (0..16).chain([u64::MAX]) {
                    for max in [0, 1, 3, 100] {
                        let range = OutputRange { stream, offset, max };
                        let (head, tail) = kept.parts();
                        let expected = OutputPart::cut(head, kept.gap, [tail, b""], range, true);
                        let found = read_part(&db, job, range).unwrap();
                        assert_eq!(found, Some(expected), "{job} {range:?}");
                    }
                }
            }
        }
        let range = OutputRange { stream: JobStream::Stdout, offset: 0, max: 1 };
        assert_eq!(read_part(&db, "unknown", range).unwrap(), None);
    }

    #[test]
    fn a_stream_that_is_cut_keeps_its_head_and_its_length() {
        let gap = |from, to| Some(Gap { from, to });
        let cases = [
            // bytes, gap, most, kept, gap
            ("head", None, 4, "head", None),
            ("headtail", None, 4, "head", gap(4, 8)),
            ("headtail", gap(4, 10), 8, "headtail", gap(4, 10)),
            ("headtail", gap(4, 10), 6, "head", gap(4, 14)),
            ("headtail", gap(4, 10), 2, "he", gap(2, 14)),
            ("headtail", gap(0, 3), 5, "", gap(0, 11)),
        ];
        for (bytes, before, max, kept, after) in cases {
            let stdout = StreamOutput { bytes: bytes.into(), gap: before };
            let output = Output { truncated: before.is_some(), stdout, ..Output::default() };
            let found = cut(&output, max);
            assert_eq!(
                found.stdout,
                StreamOutput { bytes: kept.into(), gap: after },
                "{bytes} {before:?} {max}"
            );
            assert_eq!(found.truncated, after.is_some());
        }
    }
}
