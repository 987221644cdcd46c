use std::{fs, io::Read, path::Path, sync::mpsc};

use nix::{sys::stat::Mode, unistd::mkfifo};

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// A sink that writes only what it is told to, or a full buffer.
fn sink(path: &Path, bytes: u32) -> (Sink, Arc<AtomicU64>) {
    let dropped = Arc::new(AtomicU64::default());
    let buffering = Buffering { bytes, ms: 3_600_000 };
    (Sink::new(Target::File(path.to_path_buf()), buffering, dropped.clone()), dropped)
}

fn wait_for(path: &Path, text: &str) {
    while fs::read_to_string(path).unwrap_or_default() != text {
        std::thread::yield_now();
    }
}

#[test]
fn lines_are_written_when_they_have_to_be() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    let (sink, dropped) = sink(&path, 10);
    sink.push(b"before the start\n");
    assert!(sink.flush(LONG) && !path.exists(), "nothing is opened by building");
    assert_eq!(dropped.load(Relaxed), 1);
    sink.start().unwrap();
    sink.push(b"a\n");
    assert_eq!(fs::read(&path).unwrap(), b"", "it waits for more");
    sink.push(b"b\n");
    sink.push(b"0123456789\n");
    wait_for(&path, "a\nb\n0123456789\n");
    sink.push_now(b"c\n");
    wait_for(&path, "a\nb\n0123456789\nc\n");
    sink.push(b"d\n");
    sink.hurry();
    wait_for(&path, "a\nb\n0123456789\nc\nd\n");
    sink.push(b"e\n");
    assert!(sink.flush(LONG));
    assert!(fs::read_to_string(&path).unwrap().ends_with("d\ne\n"));
    sink.push(b"f\n");
    drop(sink);
    wait_for(&path, "a\nb\n0123456789\nc\nd\ne\nf\n");
    assert_eq!(dropped.load(Relaxed), 1);
}

#[test]
fn age_alone_is_a_reason_to_write() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    let buffering = Buffering { bytes: 1 << 20, ms: 1 };
    let sink = Sink::new(Target::File(path.clone()), buffering, Arc::default());
    sink.start().unwrap();
    sink.push(b"a\n");
    wait_for(&path, "a\n");
}

#[test]
fn a_file_that_was_moved_away_gets_all_lines_from_before() {
    let place = tempfile::tempdir().unwrap();
    let (path, old) = (place.path().join("log"), place.path().join("log.1"));
    let (sink, dropped) = sink(&path, 1 << 20);
    sink.start().unwrap();
    sink.push(b"a\n");
    fs::rename(&path, &old).unwrap();
    sink.reopen();
    sink.flush(LONG);
    sink.push(b"b\n");
    sink.flush(LONG);
    assert_eq!([fs::read(&old).unwrap(), fs::read(&path).unwrap()], [b"a\n", b"b\n"]);
    // What cannot be opened again stays what it was.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    sink.reopen();
    sink.push(b"c\n");
    assert!(sink.flush(LONG));
    assert_eq!(dropped.load(Relaxed), 0);
}

#[test]
fn what_cannot_be_written_is_counted_and_nothing_waits_for_it() {
    let (full, dropped) = sink(Path::new("/dev/full"), 1);
    full.start().unwrap();
    full.push(b"a\n");
    full.push(b"b\n");
    full.flush(LONG);
    assert_eq!(dropped.load(Relaxed), 2, "a full disk");

    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("pipe");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let (pipe, dropped) = sink(&path, 1 << 10);
    assert!(pipe.start().is_err(), "no reader: an error, and no wait");
    // Opened for both, a pipe has a reader who may not read.
    let mut reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    pipe.start().unwrap();
    let line = [&[b'x'; 1023][..], b"\n"].concat();
    for _ in 0..16_384 {
        pipe.push(&line);
    }
    let lost = dropped.load(Relaxed);
    assert!((8000..13_000).contains(&lost), "the buffer has a bound: {lost}");
    assert!(!pipe.flush(Duration::from_millis(1)), "it cannot be written yet");
    let (read, all) = mpsc::channel();
    let wanted = (16_384 - lost) as usize * 1024;
    std::thread::spawn(move || {
        let mut bytes = vec![0; wanted];
        reader.read_exact(&mut bytes).unwrap();
        read.send(bytes).unwrap();
    });
    let bytes = all.recv().unwrap();
    assert!(bytes.chunks(1024).all(|it| it == line), "whole lines, all that were taken");
    assert!(pipe.flush(LONG));
    assert_eq!(dropped.load(Relaxed), lost);
}

#[test]
fn a_line_that_was_torn_stands_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    let mut output = Output::new(Target::File(path.clone())).unwrap();
    output.torn = true;
    assert_eq!(output.write(b"a\n"), 0);
    assert_eq!(fs::read(&path).unwrap(), b"\na\n");
    assert!(!output.torn);
}
