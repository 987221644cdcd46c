//! The load benchmark: GET of one cloud through the whole token pipeline, against *floor* and
//! *hand*, in one run on one machine. Prints ratios, start-up time and idle memory.
//!
//! *keystone* is Pileus with `auth_strategy = "keystone"`, and a token that is in the cache of `authtoken`: what
//! a request costs that no Keystone is asked about.
//!
//! Every server has one worker thread on one core and the client has another core, so that what is
//! measured is what a request costs the server. Short rounds alternate between the servers; a ratio
//! is taken within a round and its median counts, so that a noisy neighbour disturbs all of them alike.

// A benchmark measures real time.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use pileus_bench::{floor, hand};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PEER: &str = "PILEUS_BENCH_PEER";
/// The access log of a server, in its folder.
const LOG: &str = "access.log";
const ROUNDS: usize = 75;
const CONNECTIONS: usize = 32;
const ROUND: Duration = Duration::from_millis(200);

fn main() {
    match env::var(PEER).as_deref() {
        Ok(peer) => serve_peer(peer),
        Err(_) => run(),
    }
}

/// A peer's process: reads the token and the body to serve from stdin, says where it listens.
fn serve_peer(peer: &str) {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).expect("stdin");
    let (token, body) = input.split_once('\n').expect("a token and a body");
    let log = (env::var("PILEUS_LOG").as_deref() == Ok("info")).then(|| Path::new(LOG));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("api http://{}", listener.local_addr().expect("an address"));
        match peer {
            "floor" => floor::serve(listener, Bytes::copy_from_slice(body.as_bytes())).await,
            "hand" => hand::serve(listener, token, serde_json::from_str(body).expect("JSON"), log).await,
            other => panic!("no peer {other}"),
        }
        .expect("serves");
    });
}

struct Server {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    token: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().ok();
        self.child.wait().ok();
    }
}

fn run() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pileus = build();
    let [place, other_place, hand_place] = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    write_config(place.path(), None);
    let (keystone, asked) = start_keystone();
    write_config(other_place.path(), Some(keystone));
    for log in ["warn", "info"] {
        let (server, startup) = start_pileus("pileus", &pileus, place.path(), log, None);
        let body = first_answer(&server);
        let idle_kib = memory_kib(server.child.id());
        let token = server.token.clone();
        let (by_keystone, _) =
            start_pileus("keystone", &pileus, other_place.path(), log, Some(keystone_token()));
        // Whoever is asked, in the same words: only the token is another one.
        let host = server.address;
        let servers = [
            start_peer("floor", hand_place.path(), &token, &body, log),
            start_peer("hand", hand_place.path(), &token, &body, log),
            server,
            by_keystone,
        ];
        asked.store(0, Ordering::Relaxed);
        pin(Pid::from_raw(0), cores - 1);
        let mut rates: Vec<Vec<(f64, f64)>> = vec![Vec::new(); servers.len()];
        for round in 0..=ROUNDS {
            for (server, rates) in servers.iter().zip(&mut rates) {
                let request = format!(
                    "GET /v2/default/clouds/local HTTP/1.1\r\nHost: {host}\r\nX-Auth-Token: {}\r\nAccept: application/json\r\n\r\n",
                    server.token
                );
                let measured = load(server, request.as_bytes());
                for place in [&place, &other_place, &hand_place] {
                    shorten_log(place.path());
                }
                // The first round warms up.
                if round > 0 {
                    rates.push(measured);
                }
            }
        }
        let median = |values: &mut dyn Iterator<Item = f64>| {
            let mut values: Vec<f64> = values.collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let ratio =
            |of: usize, to: usize| median(&mut rates[of].iter().zip(&rates[to]).map(|(of, to)| of.0 / to.0));
        let words = if log == "info" { "access log written to a file" } else { "access log off" };
        println!(
            "\nGET of one cloud, {words}, {} bytes, {CONNECTIONS} connections, median of {ROUNDS} rounds of {} ms, {cores} cores",
            body.len(),
            ROUND.as_millis()
        );
        println!(
            "{:<8} {:>12} {:>16} {:>10} {:>10}",
            "server", "requests/s", "server µs each", "of floor", "of hand"
        );
        for (index, server) in servers.iter().enumerate() {
            let rate = median(&mut rates[index].iter().map(|it| it.0));
            let cpu = median(&mut rates[index].iter().map(|it| it.1));
            println!(
                "{:<8} {rate:>12.0} {cpu:>16.2} {:>10.2} {:>10.2}",
                server.name,
                ratio(index, 0),
                ratio(index, 1)
            );
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0, "the cache was not warm");
        println!("\nauthtoken on a warm cache, of tokens: {:.3}", ratio(3, 2));
        if log == "warn" {
            println!(
                "\nstart to first answer: {:.0} ms; idle memory: {:.1} MB",
                startup.as_secs_f64() * 1e3,
                idle_kib as f64 / 1024.0
            );
        }
    }
}

/// The program that is measured is the one that users run.
fn build() -> PathBuf {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the house");
    let status =
        Command::new(cargo).args(["build", "--release", "--bin", "pileus"]).current_dir(root).status();
    assert!(status.expect("cargo runs").success(), "pileus does not build");
    let exe = env::current_exe().expect("this program");
    exe.ancestors().nth(2).expect("target/release").join("pileus")
}

/// A token as long as those of Keystone.
fn keystone_token() -> String {
    let letters = "gAAAAABnQ0Jx_3fWm-9tZp1LhVrKcYdEuTqNsIoGaXwRbFjH8kM5v2C7yP6eS4zD0lU".chars().cycle();
    letters.take(204).collect()
}

/// A Keystone that knows [`keystone_token`], and how often it was asked.
fn start_keystone() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicU64::new(0));
    let counts = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counts.fetch_add(1, Ordering::Relaxed);
            answer_as_keystone(stream.expect("a connection"));
        }
    });
    (address, asked)
}

fn answer_as_keystone(stream: TcpStream) {
    let mut lines = BufReader::new(&stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let start = head.len();
        assert!(lines.read_line(&mut head).expect("a line") > 0, "half a request: {head}");
        if let Some(value) = head[start..].to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    lines.read_exact(&mut vec![0; length]).expect("a body");
    let domain = json!({ "id": "default", "name": "Default" });
    let token = json!({ "token": {
        "methods": ["password"], "audit_ids": ["3T2dc1CGQxyJsHdDu1xkcw"], "is_domain": false,
        "issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2100-01-01T00:00:00.000000Z",
        "user": { "id": "admin", "name": "admin", "domain": domain, "password_expires_at": null },
        "project": { "id": "default", "name": "default", "domain": domain },
        "roles": [{ "id": "51cc68287d524c759f47c811e6463340", "name": "admin" },
                  { "id": "9fe2ff9ee4384b1894a90878d3e92bab", "name": "member" }],
    }})
    .to_string();
    let status = if head.starts_with("POST") { "201 Created" } else { "200 OK" };
    let headers = "Content-Type: application/json\r\nX-Subject-Token: own";
    let answer = format!("HTTP/1.1 {status}\r\n{headers}\r\nContent-Length: {}\r\n\r\n{token}", token.len());
    (&stream).write_all(answer.as_bytes()).expect("written");
}

/// The shipped pipelines on free ports, with a limit that every GET has to pass. It puts no headers of its
/// own into answers, as that of *hand* does not.
fn write_config(place: &Path, keystone: Option<SocketAddr>) {
    let paste = include_str!("../api-paste.toml");
    let mut text = String::new();
    for line in paste.lines() {
        match line.split_once('=').map(|(key, _)| key.trim()) {
            Some("listen") => text.push_str("listen = \"127.0.0.1:0\"\n"),
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    let start = text.find("[filter.ratelimit]").expect("the shipped file limits rates");
    let end = text[start + 1..].find("\n[").map_or(text.len(), |end| start + 1 + end);
    let limit = "[filter.ratelimit]\nfactory = \"ratelimit\"\nheaders = false\nlimits = [{ verb = \"GET\", uri = \"*\", regex = \".*\", value = 1000000000, unit = \"SECOND\" }]\n";
    text.replace_range(start..end, limit);
    text.push_str(&format!("\n[filter.trace]\nfile = \"{LOG}\"\n"));
    if let Some(address) = keystone {
        text.push_str(&format!(
            "\n[filter.authtoken]\nauth_url = \"http://{address}/v3\"\nusername = \"pileus\"\npassword = \"x\"\n\
             project_name = \"service\"\ntoken_cache_time = 86400\n"
        ));
        fs::write(place.join("pileus.toml"), "auth_strategy = \"keystone\"\n").expect("a file");
    }
    fs::write(place.join("api-paste.toml"), text).expect("a file");
}

fn start_pileus(
    name: &'static str,
    exe: &Path,
    place: &Path,
    log: &str,
    token: Option<String>,
) -> (Server, Duration) {
    pin(Pid::from_raw(0), 0);
    let begun = Instant::now();
    let mut child = Command::new(exe)
        .arg("serve")
        .current_dir(place)
        .env("TOKIO_WORKER_THREADS", "1")
        .env("PILEUS_LOG", log)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("pileus runs");
    let address = heard(&mut child);
    let own = || fs::read_to_string(place.join("var/admin-token")).expect("a token").trim().to_owned();
    let server = Server { name, child, address, token: token.unwrap_or_else(own) };
    first_answer(&server);
    let startup = begun.elapsed();
    std::thread::sleep(Duration::from_secs(2));
    (server, startup)
}

fn start_peer(name: &'static str, place: &Path, token: &str, body: &str, log: &str) -> Server {
    pin(Pid::from_raw(0), 0);
    let mut child = Command::new(env::current_exe().expect("this program"))
        .env(PEER, name)
        .current_dir(place)
        .env("PILEUS_LOG", log)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a peer runs");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(format!("{token}\n{body}").as_bytes()).expect("written");
    drop(stdin);
    let address = heard(&mut child);
    Server { name, child, address, token: token.to_owned() }
}

/// Empties an access log after a round: no disk shall be filled, nor be written to meanwhile.
fn shorten_log(place: &Path) {
    if let Ok(file) = fs::File::options().write(true).open(place.join(LOG)) {
        file.set_len(0).expect("an empty log");
    }
}

/// Where the server says that its API listens.
fn heard(child: &mut Child) -> SocketAddr {
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let line = lines.find_map(|line| {
        let line = line.expect("a line");
        line.trim().strip_prefix("api").map(str::to_owned)
    });
    // The rest is read so that the server never waits for us.
    std::thread::spawn(move || lines.for_each(drop));
    let line = line.expect("the server says where it listens");
    let address = line.split("http://").nth(1).expect("an address");
    address.split(['/', ' ']).next().expect("an address").parse().expect("an address")
}

fn first_answer(Server { address, token, .. }: &Server) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let request = format!(
        "GET /v2/default/clouds/local HTTP/1.1\r\nHost: {address}\r\nX-Auth-Token: {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    body.to_owned()
}

/// One round; requests a second, and microseconds of the server's processor time for each.
fn load(server: &Server, request: &[u8]) -> (f64, f64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let before = cpu_ns(server.child.id());
    let begun = Instant::now();
    let count: u64 = runtime.block_on(async {
        let mut clients = tokio::task::JoinSet::new();
        // A client that sleeps has to be woken, and the server would pay for that: the more, the slower
        // it is, because its client then sleeps more often. This one never does.
        let awake = tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        for _ in 0..CONNECTIONS {
            clients.spawn(client(server.address, request.to_vec(), begun + ROUND));
        }
        let mut count = 0;
        while let Some(done) = clients.join_next().await {
            count += done.expect("a client");
        }
        awake.abort();
        count
    });
    let elapsed = begun.elapsed().as_secs_f64();
    let ran = cpu_ns(server.child.id()) - before;
    (count as f64 / elapsed, ran as f64 / 1e3 / count as f64)
}

/// Asks on one connection until time is up. All answers have the length of the first.
async fn client(address: SocketAddr, request: Vec<u8>, until: Instant) -> u64 {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let mut buffer = vec![0_u8; 64 * 1024];
    stream.write_all(&request).await.expect("written");
    let mut filled = 0;
    let length = loop {
        filled += stream.read(&mut buffer[filled..]).await.expect("read");
        let text = String::from_utf8_lossy(&buffer[..filled]);
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        let field = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        let body: usize = field.expect("a length").parse().expect("a length");
        break head.len() + 4 + body;
    };
    while filled < length {
        filled += stream.read(&mut buffer[filled..]).await.expect("read");
    }
    let mut count = 1;
    while Instant::now() < until {
        stream.write_all(&request).await.expect("written");
        let mut left = length;
        while left > 0 {
            let read = stream.read(&mut buffer[length - left..length]).await.expect("read");
            assert!(read > 0, "the server closed");
            left -= read;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "not a 200");
        count += 1;
    }
    count
}

/// Nanoseconds that all threads of a process have run.
fn cpu_ns(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let ran = |thread: std::io::Result<fs::DirEntry>| {
        // A thread that ends in between did nothing that counts.
        let text = fs::read_to_string(thread.expect("a thread").path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|ran| ran.parse::<u64>().ok()).unwrap_or(0)
    };
    threads.map(ran).sum()
}

fn memory_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Keeps a process, and whatever it starts, on one core.
fn pin(pid: Pid, core: usize) {
    let mut set = CpuSet::new();
    set.set(core).expect("a core");
    sched_setaffinity(pid, &set).expect("pinned");
}
