//! Who may speak on the channel.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use pileus_engine::desk::End;
use pileus_model::Exit;

use crate::{Test, world::World};

pub const TESTS: &[Test] = &[
    ("channel::strangers_are_turned_away", strangers_are_turned_away),
    ("channel::a_worker_tells_a_stranger_nothing", a_worker_tells_a_stranger_nothing),
];

fn call(world: &World, vm: &str) -> (TcpStream, String) {
    let home = fs::read_to_string(world.folder(vm).join("home")).unwrap();
    let stream = TcpStream::connect(home.trim_end()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut question = String::new();
    BufReader::new(&stream).read_line(&mut question).unwrap();
    (stream, question)
}

fn strangers_are_turned_away() {
    let world = World::new();
    world.boot("here-channel");
    world.boot("here-other");
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let long = format!("{{\"vm\": \"{}", "x".repeat(1 << 20));
    let cases = [
        ("forged", format!("{{\"vm\": \"here-channel\", \"nonce\": \"n\", \"mac\": \"{zeros}\"}}\n")),
        ("empty proof", "{\"vm\": \"here-channel\", \"nonce\": \"n\", \"mac\": \"\"}\n".to_owned()),
        ("unknown VM", format!("{{\"vm\": \"../../etc\", \"nonce\": \"n\", \"mac\": \"{zeros}\"}}\n")),
        ("no proof", "{\"finished\": {\"job\": \"j\"}}\n".to_owned()),
        ("garbage", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("not text", "\u{0}\u{1}\u{7f}\n\n\n".to_owned()),
        ("endless", long),
        ("half a line", "{\"vm\"".to_owned()),
    ];
    let mut questions = Vec::new();
    for (what, line) in &cases {
        let (mut stream, question) = call(&world, "here-channel");
        questions.push(question);
        // The server may hang up before all is written.
        let _ = stream.write_all(line.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{what}: {}", String::from_utf8_lossy(&answer));
    }
    questions.sort();
    questions.dedup();
    assert_eq!(questions.len(), cases.len(), "every question is fresh");
    // Many who say nothing at all, meanwhile: the workers' calls go on, and new workers call. A greeting may last
    // 5 s: 200 of them in 64 places, each until its end, would last 15 s.
    let silent: Vec<_> = (0..200).map(|_| call(&world, "here-channel").0).collect();
    let first = silent.first().unwrap();
    first.set_nonblocking(true).unwrap();
    assert!(matches!((&*first).read(&mut [0]), Ok(0)), "the oldest made room");
    let last = silent.last().unwrap();
    last.set_nonblocking(true).unwrap();
    assert!((&*last).read(&mut [0]).is_err(), "the newest may still prove who it is");
    world.boot("here-late");
    for vm in ["here-channel", "here-other", "here-late"] {
        world.give(vm, vm, &["true"]);
        assert_eq!(world.report(vm).end, End::Exited(Exit::Code(0)));
    }
    drop(silent);
}

fn a_worker_tells_a_stranger_nothing() {
    let mut world = World::new();
    let vm = world.boot("here-squatter");
    world.stop();
    // Somebody else sits where the server was, asks, and pretends to be satisfied.
    let squatter = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = world.folder(&vm.id).join("home");
    fs::write(&home, squatter.local_addr().unwrap().to_string()).unwrap();
    let (mut stream, _) = squatter.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"{\"nonce\": \"n\"}\n").unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut answer = String::new();
    reader.read_line(&mut answer).unwrap();
    assert!(answer.contains("\"mac\""), "{answer}");
    stream.write_all(b"{\"mac\": \"AAAA\"}\n{\"run\": {\"job\": \"j\", \"command\": [\"true\"]}}\n").unwrap();
    let mut rest = String::new();
    let _ = reader.read_to_string(&mut rest);
    assert_eq!(rest, "", "it hung up");
    drop(squatter);
    // Its proof was made for another address: it is worth nothing at the server's.
    world.start();
    let (mut stream, _) = call(&world, &vm.id);
    stream.write_all(answer.as_bytes()).unwrap();
    let mut welcome = String::new();
    let _ = stream.read_to_string(&mut welcome);
    assert_eq!(welcome, "");
    world.give(&vm.id, "after", &["true"]);
    assert_eq!(world.report("after").end, End::Exited(Exit::Code(0)));
}
