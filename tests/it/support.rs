//! What every integration test stands on: a real `pileus` process on free ports with a state
//! folder of its own, and a client that says exactly what it is told to.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use pileus::{paste::TlsSettings, serve::Keys};
use serde_json::Value;
use tempfile::TempDir;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConnection, StreamOwned, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// How long anything may take before a test gives up; nothing sleeps that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// User `nobody`, for tests of a service that was not started as root.
const UNPRIVILEGED: u32 = 65_534;

/// `true` if this test runs as root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0)
}

/// Where a test's files and state lie. Outlives the processes that it starts.
pub struct Place {
    dir: TempDir,
    /// What marks the processes of this place's VMs, once one was seen.
    markers: Mutex<HashSet<String>>,
    /// User that runs `pileus` here. `None`: this test's.
    user: Option<u32>,
}

impl Place {
    /// An empty place with the shipped pipelines on free ports and `config` as its `pileus.toml`.
    pub fn new(config: &str) -> Self {
        let place =
            Self { dir: tempfile::tempdir().expect("a folder"), markers: Mutex::default(), user: None };
        place.write("pileus.toml", config);
        let paste = include_str!("../../api-paste.toml");
        for port in [":8774\"", ":8111\"", ":8112\""] {
            assert!(paste.contains(port), "the shipped file listens on {port}");
        }
        let paste = paste.replace(":8774\"", ":0\"").replace(":8111\"", ":0\"").replace(":8112\"", ":0\"");
        place.write("api-paste.toml", &paste);
        place.write("policy.json", include_str!("../../policy.json"));
        place
    }

    /// One cloud `local` that polls every second and keeps idle VMs for `keep_alive_s`.
    pub fn quick(keep_alive_s: u64) -> Self {
        Self::new(&format!("{QUICK}keep_alive_s = {keep_alive_s}\n"))
    }

    /// The same place, where an address may fail to authenticate as often as a test does.
    pub fn without_guess_limit(self) -> Self {
        let paste = fs::read_to_string(self.path().join("api-paste.toml")).expect("a file");
        let limit = "value = 60, unit = \"minute\"";
        assert!(paste.contains(limit), "the shipped limit");
        self.write("api-paste.toml", &paste.replace(limit, "value = 100000, unit = \"minute\""));
        self
    }

    /// The same place, of a user without rights: of this test's user if that is not root.
    pub fn without_root(mut self) -> Self {
        if is_root() {
            let program = self.path().join("pileus");
            let built = env!("CARGO_BIN_EXE_pileus");
            fs::hard_link(built, &program)
                .or_else(|_| fs::copy(built, &program).map(drop))
                .expect("a program");
            std::os::unix::fs::chown(self.path(), Some(UNPRIVILEGED), Some(UNPRIVILEGED))
                .expect("its folder");
            self.user = Some(UNPRIVILEGED);
        }
        self
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn state(&self) -> PathBuf {
        self.path().join("var")
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("a file");
    }

    /// Writes a file that its owner alone may read; returns its path.
    pub fn secret(&self, name: &str, text: &str) -> PathBuf {
        self.write(name, text);
        let path = self.path().join(name);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its mode");
        path
    }

    /// Processes of this place's VMs: workers, which are told their folder, and whatever they
    /// started, which bears the same mark.
    pub fn workers(&self) -> Vec<u32> {
        let state = self.state().to_string_lossy().into_owned();
        let mut markers = self.markers.lock().expect("not poisoned");
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let marked: Vec<(u32, String)> =
            pids.filter_map(|pid| Some((pid, variable(pid, "PILEUS_STATE")?))).collect();
        for (pid, marker) in &marked {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&state) {
                markers.insert(marker.clone());
            }
        }
        marked.into_iter().filter(|(_, marker)| markers.contains(marker)).map(|(pid, _)| pid).collect()
    }

    /// Runs `pileus` to its end.
    pub fn run(&self, args: &[&str]) -> (ExitStatus, String, String) {
        let output = self.command(args).output().expect("pileus runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status, text(output.stdout), text(output.stderr))
    }

    /// Starts `pileus serve`, and waits until it says where it listens.
    pub fn serve(&self) -> Server<'_> {
        self.try_serve().unwrap_or_else(|stderr| panic!("pileus did not start: {stderr}"))
    }

    pub fn try_serve(&self) -> Result<Server<'_>, String> {
        self.try_serve_by(self.command(&["serve"]))
    }

    /// The same by a command that becomes `pileus serve`.
    pub fn try_serve_by(&self, mut command: Command) -> Result<Server<'_>, String> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pileus runs");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let stderr = child.stderr.take().expect("stderr");
        let log = thread::spawn(move || {
            let mut text = String::new();
            BufReader::new(stderr).read_to_string(&mut text).ok();
            text
        });
        let (said, hears) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        let mut banner = Vec::new();
        loop {
            match hears.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let last = line.trim_start().starts_with("curl ");
                    banner.push(line);
                    if last {
                        break;
                    }
                }
                Err(_) => {
                    child.kill().ok();
                    child.wait().ok();
                    return Err(log.join().unwrap_or_default());
                }
            }
        }
        let address = |name: &str| -> SocketAddr {
            let line = banner.iter().find_map(|line| line.trim().strip_prefix(name)?.split("http://").nth(1));
            let text = line.unwrap_or_else(|| panic!("no address of {name} in {banner:?}"));
            text.split(['/', ' ']).next().expect("an address").parse().expect("an address")
        };
        let (api, info, admin) = (address("api"), address("info"), address("admin"));
        let token = fs::read_to_string(self.state().join("admin-token")).expect("the administrator's token");
        let token = token.trim_end().to_owned();
        Ok(Server { place: self, child, log: Some(log), banner, api, info, admin, token })
    }

    /// `pileus` with these arguments, in its place.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match self.user {
            None => Command::new(env!("CARGO_BIN_EXE_pileus")),
            Some(user) => {
                // The built program may lie where this user may not pass.
                let mut command = Command::new(self.path().join("pileus"));
                command.uid(user).gid(user);
                command
            }
        };
        command.args(args).current_dir(self.path()).stdin(Stdio::null()).env_remove("PILEUS_LOG");
        command
    }
}

/// The beginning of a `pileus.toml` for tests: reconcilers look every second, and `local` is next.
pub const QUICK: &str = "
[scheduler]
scheduler_interval_s = 1
cleanup_interval_s = 1
vm_poller_interval_s = 1
job_poller_interval_s = 1
machine_poller_interval_s = 1

[clouds.local]
driver = \"local\"
vm_slots = 2
";

/// A running `pileus serve`. Dropping it ends it, and its VMs with it.
pub struct Server<'a> {
    place: &'a Place,
    child: Child,
    log: Option<thread::JoinHandle<String>>,
    pub banner: Vec<String>,
    pub api: SocketAddr,
    pub info: SocketAddr,
    pub admin: SocketAddr,
    pub token: String,
}

impl Server<'_> {
    /// A call to the API port as the administrator.
    pub fn call(&self, method: &str, path: &str, body: &str) -> Reply {
        let token = format!("X-Auth-Token: {}", self.token);
        send(self.api, method, path, &[&token, "Content-Type: application/json"], body)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path, "")
    }

    pub fn post(&self, path: &str, body: &str) -> Reply {
        self.call("POST", path, body)
    }

    /// A call to the info port.
    pub fn info(&self, path: &str) -> Reply {
        send(self.info, "GET", path, &[], "")
    }

    /// A call to the admin port with a form, as `cloud_admin` sends it.
    pub fn admin(&self, method: &str, path: &str, form: &str) -> Reply {
        send(self.admin, method, path, &["Content-Type: application/x-www-form-urlencoded"], form)
    }

    /// Submits a job that runs `script` in a shell; answers with its id.
    pub fn submit(&self, script: &str) -> String {
        let body = serde_json::json!({ "job": { "command": ["sh", "-c", script], "memory_mib": 64 } });
        let reply = self.post("/v2/default/jobs", &body.to_string());
        assert_eq!(reply.status, 202, "{}", reply.text);
        reply.json()["job"]["id"].as_str().expect("an id").to_owned()
    }

    /// Asks for the job until it is in `state`; answers with it.
    pub fn await_job(&self, id: &str, state: &str) -> Value {
        let path = format!("/v2/default/jobs/{id}");
        await_some(&format!("job {id} to be {state}"), || {
            let reply = self.get(&path);
            let job = reply.json()["job"].clone();
            if job["state"] == state { Ok(job) } else { Err(reply.text) }
        })
    }

    /// Asks until there is no VM any more.
    pub fn await_no_vms(&self) {
        await_some("all VMs to be gone", || {
            let reply = self.get("/v2/default/vms");
            if reply.json()["vms"] == serde_json::json!([]) { Ok(()) } else { Err(reply.text) }
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`: its VMs live on until somebody finds them.
    pub fn kill(mut self) {
        self.child.kill().expect("a living process");
        self.child.wait().expect("its end");
    }

    /// SIGTERM, and what it wrote to stderr.
    pub fn stop(self) -> (ExitStatus, String) {
        self.terminate();
        self.ended()
    }

    /// Waits for its end; answers with what it wrote to stderr.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("its end");
        let log = self.log.take().expect("the log").join().expect("the log");
        (status, log)
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
            self.child.wait().ok();
        }
        // After a kill nobody owns the workers any more: they must not outlive the test.
        if thread::panicking() {
            // What the server said of it is the half of every finding.
            let said = self.log.take().and_then(|log| log.join().ok());
            eprintln!("the server said:\n{}", said.unwrap_or_default());
            for pid in self.place.workers() {
                Command::new("kill").args(["-KILL", &pid.to_string()]).status().ok();
            }
        }
    }
}

/// A variable of a process that still lives.
fn variable(pid: u32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut entries = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    entries.find_map(|entry| entry.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

/// Asks until there is an answer; fails with the last complaint after [`PATIENCE`].
pub fn await_some<T, E: std::fmt::Display>(what: &str, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(found) => return found,
            Err(complaint) if start.elapsed() > PATIENCE => panic!("waited for {what}: {complaint}"),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// An address that nobody has, for whoever has to know it beforehand. Not one of those that the system
/// gives to others who ask for any.
pub fn free_address() -> SocketAddr {
    // Two tests of one run never try the same ports, two runs seldom.
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let turn = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let first = std::process::id() as usize * 37 + turn * 100;
    let mut ports = (0..100).map(|step| 20_000 + ((first + step) % 12_000) as u16);
    let free = ports.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    free.expect("a free port").local_addr().expect("its address")
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub text: String,
    /// The body to the byte.
    pub bytes: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The one key at the top of the body.
    pub fn top(&self) -> String {
        let json = self.json();
        json.as_object().and_then(|it| it.keys().next()).cloned().unwrap_or_default()
    }
}

/// One request on a connection of its own.
pub fn send(to: SocketAddr, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT") {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    request.push_str(body);
    raw(to, request.as_bytes()).unwrap_or_else(|| panic!("no answer to {method} {path}"))
}

/// A server that speaks TLS with `NAME.pem` and `NAME.key` of the folder, and answers each request with what
/// `answer` makes of it; answers with its port.
pub fn tls_server(folder: &Path, name: &str, answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> u16 {
    let file = |end: &str| folder.join(format!("{name}.{end}"));
    let tls = TlsSettings { certificate: file("pem"), key: file("key"), client_ca: None, crl: None };
    let keys = Keys::read(&tls, false).expect("keys");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let session = ServerConnection::new(keys.acceptor().config().clone()).expect("a session");
            let mut stream = StreamOwned::new(session, stream.expect("a connection"));
            // Who does not agree is not answered.
            let Some(request) = request(&mut stream) else { continue };
            stream.write_all(&answer(&request)).ok();
            stream.conn.send_close_notify();
            stream.flush().ok();
        }
    });
    port
}

/// A client of TLS that trusts `ca.pem` of the folder, and shows `NAME.pem` if it has a name. Clones share their
/// sessions.
pub fn tls_config(
    folder: &Path,
    name: Option<&str>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let certificate = |name: &str| {
        CertificateDer::from_pem_file(folder.join(format!("{name}.pem"))).expect("a certificate")
    };
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca")).expect("an authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(versions).expect("versions").with_root_certificates(roots);
    Arc::new(match name {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).expect("a key");
            builder.with_client_auth_cert(vec![certificate(name)], key).expect("a client")
        }
    })
}

/// A connection of such a client to `localhost`.
pub fn tls_client(config: &Arc<ClientConfig>, to: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let name = "localhost".try_into().expect("a name");
    StreamOwned::new(ClientConnection::new(config.clone(), name).expect("a session"), stream)
}

/// A whole request; `None` where it breaks off.
fn request(stream: &mut impl Read) -> Option<Vec<u8>> {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut part).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&part[..read]);
        let Some(end) = request.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        if request.len() >= end + 4 + length.unwrap_or(0) {
            return Some(request);
        }
    }
}

/// Any bytes on a connection of their own; `None` where no answer came back.
pub fn raw(to: SocketAddr, bytes: &[u8]) -> Option<Reply> {
    let stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    raw_on(stream, bytes)
}

/// The same on a connection of whatever kind.
pub fn raw_on(mut stream: impl Read + Write, bytes: &[u8]) -> Option<Reply> {
    // A server that refuses early closes before all is sent: what it said still counts.
    stream.write_all(bytes).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = &answer[end + 4..];
    let body = if chunked { unchunk(body) } else { body.to_vec() };
    Some(Reply { status, headers, text: String::from_utf8_lossy(&body).into_owned(), bytes: body })
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|it| it == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).ok();
        let size = size.and_then(|it| usize::from_str_radix(it.split(';').next()?.trim(), 16).ok());
        let Some(size) = size.filter(|size| *size > 0 && end + 2 + size <= body.len()) else { break };
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[(end + 4 + size).min(body.len())..];
    }
    whole
}
