//! A server that answers from a script and remembers what it was asked, and the programs beside it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use tempfile::TempDir;

/// A question, as a line: `PUT /clouds/C action=enable`; the status and the body of its answer.
pub type Rule<'a> = (&'a str, u16, &'a str);

/// The server. Whatever no rule is about it answers with the question.
pub struct Server {
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// What it was asked.
#[derive(Clone)]
pub struct Asked {
    /// Method, target and body.
    pub line: String,
    /// Head lines, in lower case.
    pub head: Vec<String>,
}

impl Server {
    pub fn start(rules: &[Rule]) -> Self {
        Self::with(rules.iter().map(|(line, status, body)| (*line, *status, (*body).to_owned())))
    }

    pub fn with<'a>(rules: impl IntoIterator<Item = (&'a str, u16, String)>) -> Self {
        let rules: Vec<(String, u16, String)> =
            rules.into_iter().map(|(line, status, body)| (line.to_owned(), status, body)).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let remembered = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let asked = read(&stream);
                let rule = rules.iter().find(|(line, ..)| *line == asked.line);
                let (status, body) = rule.map_or((200, asked.line.clone()), |rule| (rule.1, rule.2.clone()));
                remembered.lock().unwrap().push(asked);
                answer(stream, status, &body);
            }
        });
        Self { port, asked }
    }

    /// What it was asked since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

fn read(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let first = head.remove(0);
    let head: Vec<String> = head.iter().map(|line| line.to_lowercase()).collect();
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let line = format!("{} {}", first.trim_end_matches(" HTTP/1.1"), String::from_utf8(body).unwrap());
    Asked { line: line.trim_end().to_owned(), head }
}

/// In chunks, and without a type: as CherryPy did.
fn answer(mut stream: TcpStream, status: u16, body: &str) {
    let mut text = format!("HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\nServer: localhost\r\n");
    text.push_str("x-compute-request-id: req-1\r\n\r\n");
    let (one, other) = body.split_at(body.len() / 2);
    for chunk in [one, other].into_iter().filter(|chunk| !chunk.is_empty()) {
        text.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    text.push_str("0\r\n\r\n");
    stream.write_all(text.as_bytes()).ok();
}

/// A place to run programs in, with a home folder of its own.
pub struct Bench {
    pub home: TempDir,
}

/// What a program did.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub out: String,
    pub err: String,
    pub code: i32,
}

pub const STATUS: &str = env!("CARGO_BIN_EXE_cloud_status");
pub const ADMIN: &str = env!("CARGO_BIN_EXE_cloud_admin");

impl Bench {
    /// With an empty configuration, so that nothing warns.
    pub fn new() -> Self {
        let bench = Self { home: tempfile::tempdir().unwrap() };
        bench.configure("cloud_scheduler_status.conf", "");
        bench.configure("cloud_scheduler.conf", "");
        bench
    }

    pub fn configure(&self, name: &str, text: &str) {
        let folder = self.home.path().join(".cloudscheduler");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        command
    }

    /// Runs a program with words that are parted by spaces.
    pub fn run(&self, program: &str, line: &str) -> Ran {
        self.run_words(program, &line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>())
    }

    pub fn run_words(&self, program: &str, words: &[&str]) -> Ran {
        ran(self.command(program).args(words).output().unwrap())
    }

    /// Runs `cloud_status` against a server.
    pub fn status(&self, server: &Server, line: &str) -> Ran {
        self.run(STATUS, &format!("-s 127.0.0.1 -p {} {line}", server.port))
    }

    /// Runs `cloud_admin` against a server.
    pub fn admin(&self, server: &Server, line: &str) -> Ran {
        self.run(ADMIN, &format!("-s 127.0.0.1 -P {} {line}", server.port))
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }
}

pub fn ran(output: Output) -> Ran {
    Ran {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap(),
    }
}

/// A port at which nobody listens, nor will: it is bound for as long as the tests run.
pub fn nobody() -> u16 {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    std::mem::forget(socket);
    port
}

/// Writes a file that its owner alone may read.
pub fn secret(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}
