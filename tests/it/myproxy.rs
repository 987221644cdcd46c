//! Users' proxies from a real MyProxy server, with an authority made for the test.
//!
//! Without the Debian packages `myproxy`, `myproxy-server` and `openssl` it is skipped, and says so; with
//! `PILEUS_REAL=1` that is a failure.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{PATIENCE, Place, QUICK, Server, await_some};

const PASSPHRASE: &str = "correct horse battery";
const PROGRAMS: [&str; 4] = ["openssl", "myproxy-server", "myproxy-init", "myproxy-logon"];

/// Whether the test can run here.
fn installed() -> bool {
    let found = |program: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|folder| folder.join(program).is_file())
    };
    let missing: Vec<_> = PROGRAMS.iter().copied().filter(|program| !found(program)).collect();
    if missing.is_empty() {
        return true;
    }
    let real = std::env::var("PILEUS_REAL").is_ok_and(|it| it == "1");
    assert!(!real, "PILEUS_REAL=1, and {missing:?} are not installed");
    eprintln!(
        "skipped: {missing:?} are not installed (Debian: apt-get install myproxy myproxy-server openssl)"
    );
    false
}

/// A server that keeps credentials, and its authority. Dropping it ends it.
struct MyProxy {
    dir: PathBuf,
    port: u16,
}

impl MyProxy {
    fn start(dir: &Path) -> Self {
        let it = Self { dir: dir.to_path_buf(), port: free_port() };
        fs::create_dir_all(it.path("ca")).expect("a folder");
        fs::create_dir_all(it.path("store")).expect("a folder");
        chmod(&it.path("store"), 0o700);
        it.openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout cakey.pem -out ca.pem -days 30",
            Some("/O=Test/CN=CA"),
        );
        let hash = it.openssl("x509 -in ca.pem -noout -hash", None);
        let at = format!("ca/{}", hash.trim());
        fs::copy(it.path("ca.pem"), it.path(&format!("{at}.0"))).expect("a copy");
        let policy = "access_id_CA X509 '/O=Test/CN=CA'\npos_rights globus CA:sign\ncond_subjects globus '\"/O=Test/*\"'\n";
        fs::write(it.path(&format!("{at}.signing_policy")), policy).expect("a file");
        it.certify("host", "/O=Test/CN=localhost");
        it.certify("pileus", "/O=Test/CN=pileus");
        it.certify("ada", "/O=Test/CN=Ada");
        // Anybody may store, and fetch with the passphrase; Pileus alone may renew.
        let conf = "accepted_credentials \"*\"\nauthorized_retrievers \"*\"\ndefault_retrievers \"*\"\n\
                    authorized_renewers \"/O=Test/CN=pileus\"\ndefault_renewers \"*\"\n";
        fs::write(it.path("conf"), conf).expect("a file");
        it.serve();
        it
    }

    /// It goes into the background by itself, so its number is in a file.
    fn serve(&self) {
        let mut command = Command::new("myproxy-server");
        command.arg("-c").arg(self.path("conf")).arg("-s").arg(self.path("store"));
        command.args(["-l", "localhost", "-p", &self.port.to_string()]).arg("-P").arg(self.path("pid"));
        run(self.as_user(&mut command, "host"), "");
        await_some("the MyProxy server", || std::net::TcpStream::connect(("127.0.0.1", self.port)));
    }

    fn stop(&self) {
        let pid = fs::read_to_string(self.path("pid")).unwrap_or_default();
        if !pid.trim().is_empty() {
            Command::new("kill").args(["-KILL", pid.trim()]).status().ok();
        }
    }

    /// Stores a week of ada's credential under this name.
    fn store(&self, credential_name: &str, with: &[&str], passphrase: &str) {
        let mut command = Command::new("myproxy-init");
        command.args([
            "-s",
            "localhost",
            "-p",
            &self.port.to_string(),
            "-l",
            "ada-there",
            "-k",
            credential_name,
        ]);
        run(self.as_user(command.args(with), "ada"), passphrase);
    }

    fn certify(&self, name: &str, subject: &str) {
        let request = format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr");
        self.openssl(&request, Some(subject));
        let sign = format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey cakey.pem -CAcreateserial -days 20 -out {name}.pem"
        );
        self.openssl(&sign, None);
        chmod(&self.path(&format!("{name}.key")), 0o600);
    }

    fn openssl(&self, args: &str, subject: Option<&str>) -> String {
        let mut command = Command::new("openssl");
        command.args(args.split(' ')).current_dir(&self.dir);
        subject.map(|subject| command.args(["-subj", subject]));
        run(&mut command, "")
    }

    fn as_user<'a>(&self, command: &'a mut Command, name: &str) -> &'a mut Command {
        command.env("X509_CERT_DIR", self.path("ca")).env("HOME", &self.dir);
        command.env("X509_USER_CERT", self.path(&format!("{name}.pem")));
        command.env("X509_USER_KEY", self.path(&format!("{name}.key")))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for MyProxy {
    fn drop(&mut self) {
        self.stop();
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Runs a program that must succeed; answers with what it wrote.
fn run(command: &mut Command, stdin: &str) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin")).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a program");
    child.stdin.take().expect("stdin").write_all(stdin.as_bytes()).ok();
    let output = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Refreshes ada's proxy in the API.
fn refresh(server: &Server<'_>, proxy: &str) -> crate::support::Reply {
    server.post("/v2/default/users/ada/action", &json!({ "refresh": { "proxy": proxy } }).to_string())
}

fn ada(server: &Server<'_>) -> Value {
    server.get("/v2/default/users/ada").json()["user"].take()
}

/// When OpenSSL says that the proxy in this file ends, as RFC 3339.
fn end(authority: &MyProxy, file: &Path) -> String {
    let args = format!("x509 -in {} -noout -enddate -dateopt iso_8601", file.display());
    let said = authority.openssl(&args, None);
    said.trim().trim_start_matches("notAfter=").replace(' ', "T")
}

fn settings(authority: &MyProxy, more: &str) -> String {
    let (dir, port) = (authority.dir.display(), authority.port);
    format!(
        "{QUICK}
[credentials]
server = \"localhost\"
port = {port}
trusted_ca_dir = \"{dir}/ca\"
client_cert = \"{dir}/pileus.pem\"
client_key = \"{dir}/pileus.key\"
timeout_s = 5
{more}
"
    )
}

#[test]
fn proxies_are_renewed_from_a_real_server_and_their_end_is_seen() {
    if !installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let authority = MyProxy::start(folder.path());
    authority.store("batch", &["-S", "-c", "168", "-t", "24"], PASSPHRASE);
    authority.store("renewable", &["-n", "-c", "168", "-t", "24", "-R", "pileus"], "");
    let ada_with = |credential: &str, rest: &str| {
        settings(
            &authority,
            &format!(
                "[credentials.users.ada]\naccount = \"ada-there\"\ncredential_name = \"{credential}\"\n{rest}"
            ),
        )
    };
    let place = Place::new(&ada_with("batch", "lifetime_h = 2\npassphrase_file = \"secret\""));
    place.write("secret", &format!("{PASSPHRASE}\n"));
    chmod(&place.path().join("secret"), 0o600);
    let file = place.state().join("credentials/ada/job_proxy.pem");
    let server = place.serve();

    // The first one, natively.
    let reply = refresh(&server, "job_proxy");
    assert_eq!(reply.status, 200, "{}", reply.text);
    let first = ada(&server)["proxies"].take();
    assert_eq!(reply.json()["user"]["proxies"], first);
    assert_eq!(first["job_proxy"]["expires"], end(&authority, &file), "{first}");
    assert_eq!((&first["job_proxy"]["server"], &first["vm_proxy"]), (&json!("localhost"), &Value::Null));
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let events = server.get("/v2/default/events?all_projects=1&kind=proxy_renewed").json();
    assert_eq!(events["events"][0]["data"]["expires"], first["job_proxy"]["expires"], "{events}");
    // The other one, from the old port.
    let reply = server.admin("POST", "/users/ada", "refresh=vm_proxy");
    let both = ada(&server)["proxies"].take();
    let until = both["vm_proxy"]["expires"].as_str().expect("its end").to_owned();
    assert_eq!((reply.status, reply.text), (200, format!("Renewed the VM proxy of ada until {until}.")));
    assert_eq!(both["job_proxy"], first["job_proxy"]);
    for (form, status) in [("", 404), ("refresh=", 404), ("refresh=jobs", 404)] {
        assert_eq!(server.admin("POST", "/users/ada", form).status, status, "{form}");
    }
    let (_, first_log) = server.stop();

    // Once there is one, it proves by itself who asks for the next: no passphrase. The state remembers.
    place.write("pileus.toml", &ada_with("renewable", "lifetime_h = 20"));
    let server = place.serve();
    assert_eq!(ada(&server)["proxies"], both);
    let reply = refresh(&server, "job_proxy");
    assert_eq!(reply.status, 200, "{}", reply.text);
    let renewed = ada(&server)["proxies"]["job_proxy"]["expires"].as_str().expect("its end").to_owned();
    assert!(renewed.as_str() > first["job_proxy"]["expires"].as_str().expect("its end"), "{renewed}");
    assert_eq!(renewed, end(&authority, &file));
    let (_, second_log) = server.stop();
    for log in [&first_log, &second_log] {
        assert!(
            log.contains("proxy renewed") && !log.contains(PASSPHRASE) && !log.contains("PRIVATE KEY"),
            "{log}"
        );
    }
}

#[test]
fn a_wrong_passphrase_and_a_server_that_is_gone_or_hangs_are_clear_faults() {
    if !installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let authority = MyProxy::start(folder.path());
    authority.store("batch", &["-S", "-c", "168"], PASSPHRASE);
    let user = "account = \"ada-there\"\ncredential_name = \"batch\"\npassphrase_file = \"secret\"";
    let place = Place::new(&settings(&authority, &format!("[credentials.users.ada]\n{user}")));
    let write = |secret: &str| {
        place.write("secret", &format!("{secret}\n"));
        chmod(&place.path().join("secret"), 0o600);
    };
    write("wrong horse battery");
    let server = place.serve();
    let port = authority.port;
    let fault = |wanted: &str| {
        let reply = refresh(&server, "job_proxy");
        let message = reply.json()["computeFault"]["message"].as_str().expect("a message").to_owned();
        assert_eq!(reply.status, 502, "{}", reply.text);
        assert!(message.starts_with(&format!("localhost:{port} gave no proxy")), "{message}");
        assert!(message.contains(wanted), "{message}");
    };
    // What it says of its own depends on what the wrong key makes of the bytes: most often that the
    // passphrase is wrong, one time in some hundreds that they are no key.
    fault("ERROR from myproxy-server");
    let reply = server.admin("POST", "/users/ada", "refresh=job_proxy");
    let wanted = format!("Unable to renew the job proxy of ada. localhost:{port} gave no proxy: ");
    assert!(reply.status == 200 && reply.text.starts_with(&wanted), "{}", reply.text);
    authority.stop();
    await_some("the server's end", || match std::net::TcpStream::connect(("127.0.0.1", port)) {
        Ok(_) => Err("it listens"),
        Err(_) => Ok(()),
    });
    fault("Connection refused");

    // One that takes the call and says nothing; meanwhile everybody else is answered.
    let silent = TcpListener::bind(("127.0.0.1", port)).expect("the port");
    write(PASSPHRASE);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| refresh(&server, "job_proxy"));
        let (mut called, _) = silent.accept().expect("a call");
        assert_eq!(refresh(&server, "job_proxy").status, 409, "one at a time");
        assert_eq!(ada(&server), Value::Null, "nothing came yet");
        let reply = asked.join().expect("an answer");
        assert_eq!(reply.status, 502, "{}", reply.text);
        assert!(reply.text.contains("gave no proxy within 5 s."), "{}", reply.text);
        // The program is gone: its end of the line is closed.
        called.set_read_timeout(Some(Duration::from_secs(PATIENCE.as_secs()))).expect("a time-out");
        called.read_to_end(&mut Vec::new()).ok();
    });
    drop(silent);
    // Well again, it gives one.
    authority.serve();
    let reply = refresh(&server, "job_proxy");
    assert_eq!(reply.status, 200, "{}", reply.text);
    let (_, log) = server.stop();
    assert!(!log.contains("horse"), "{log}");
}
