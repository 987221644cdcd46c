//! Callers whom a real Keystone knows, from PyPI (`tests/keystone-up.sh`).
//!
//! With `PILEUS_REAL=1` it is installed below `target/`, which takes a minute, once. Without, the test is skipped
//! where it was not installed before, and says so.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    certificates::{authority, certificate},
    support::{Place, QUICK, Reply, Server, await_some, send, tls_server},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keystone-up.sh");

/// Where Keystone is installed; `None`: nowhere, and nobody asked for it.
pub fn installed() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("keystone");
    if std::env::var("PILEUS_REAL").is_ok_and(|it| it == "1") {
        let status = Command::new(SCRIPT).arg("install").arg(&venv).status().expect("a shell");
        assert!(status.success(), "PILEUS_REAL=1, and Keystone cannot be installed");
    }
    if venv.join("ready").exists() {
        return Some(venv);
    }
    eprintln!("skipped: Keystone is not installed (tests/keystone-up.sh install {})", venv.display());
    None
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A Keystone. Dropping it ends it.
pub struct Keystone {
    venv: PathBuf,
    dir: PathBuf,
    pub port: u16,
    running: Option<Child>,
    /// A token of its administrator.
    admin: String,
}

impl Keystone {
    pub fn start(venv: PathBuf, dir: &Path) -> Self {
        let mut it =
            Self { venv, dir: dir.join("keystone"), port: free_port(), running: None, admin: String::new() };
        it.serve(3600);
        it.admin = it.token(password("admin", "admin-pw"), Some(project("admin"))).expect("a token");
        it
    }

    /// Starts it, or starts it again, with tokens that live so long.
    fn serve(&mut self, token_life_s: u32) {
        let log = fs::File::create(self.dir.with_extension("log")).expect("a file");
        let mut command = Command::new(SCRIPT);
        command.arg("serve").arg(&self.venv).arg(&self.dir).arg(self.port.to_string());
        command.env("TOKEN_LIFE_S", token_life_s.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        self.running = Some(command.stderr(log).spawn().expect("a shell"));
        await_some("Keystone", || std::net::TcpStream::connect(self.address()));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Reply {
        let headers = [format!("X-Auth-Token: {token}"), "Content-Type: application/json".into()];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        send(self.address(), method, path, &[&headers[0], &headers[1]], &body)
    }

    /// Makes something as the administrator; answers with its id.
    pub fn make(&self, kind: &str, path: &str, what: Value) -> String {
        let reply = self.call("POST", path, &self.admin, json!({ kind: what }));
        assert_eq!(reply.status, 201, "{path}: {}", reply.text);
        reply.json()[kind]["id"].as_str().expect("an id").to_owned()
    }

    fn put(&self, path: &str) {
        let reply = self.call("PUT", path, &self.admin, Value::Null);
        assert_eq!(reply.status, 204, "{path}: {}", reply.text);
    }

    /// A user, his password being `NAME-pw`, with a role in a project.
    pub fn user(&self, name: &str, project: &str, role: &str) -> String {
        let what = json!({ "name": name, "password": format!("{name}-pw"), "domain_id": "default" });
        let id = self.make("user", "/v3/users", what);
        self.put(&format!("/v3/projects/{project}/users/{id}/roles/{}", self.id_of("roles", role)));
        id
    }

    fn id_of(&self, collection: &str, name: &str) -> String {
        let found =
            self.call("GET", &format!("/v3/{collection}?name={name}"), &self.admin, Value::Null).json();
        found[collection][0]["id"].as_str().expect("an id").to_owned()
    }

    fn token(&self, identity: Value, scope: Option<Value>) -> Result<String, String> {
        let mut auth = json!({ "identity": identity });
        if let Some(scope) = scope {
            auth["scope"] = scope;
        }
        let body = json!({ "auth": auth }).to_string();
        let reply =
            send(self.address(), "POST", "/v3/auth/tokens", &["Content-Type: application/json"], &body);
        let token = reply.header("x-subject-token").map(str::to_owned);
        token.filter(|_| reply.status == 201).ok_or(reply.text)
    }

    /// A token of a user in a project.
    pub fn of(&self, user: &str, in_project: &str) -> String {
        self.token(password(user, &format!("{user}-pw")), Some(project(in_project))).expect("a token")
    }
}

impl Drop for Keystone {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!(
                "Keystone said:\n{}",
                fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default()
            );
        }
    }
}

fn password(user: &str, password: &str) -> Value {
    let user = json!({ "name": user, "domain": { "id": "default" }, "password": password });
    json!({ "methods": ["password"], "password": { "user": user } })
}

fn project(name: &str) -> Value {
    json!({ "project": { "name": name, "domain": { "id": "default" } } })
}

/// The shipped pipelines, told to ask this Keystone by TLS; the first address of the list is a dead one.
pub fn place(keystone: &Keystone, credentials: &str) -> Place {
    let place = Place::new(&format!("auth_strategy = \"keystone\"\n{QUICK}")).without_guess_limit();
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    authority(place.path(), "ca");
    certificate(place.path(), "ca", "keystone", "DNS:localhost");
    let behind = keystone.address();
    let port = tls_server(place.path(), "keystone", move |request| {
        let mut answer = Vec::new();
        let asked = TcpStream::connect(behind).and_then(|mut stream| {
            stream.write_all(request)?;
            stream.read_to_end(&mut answer)
        });
        // Nothing: it is dead, and so is what stands before it.
        asked.map(|_| answer).unwrap_or_default()
    });
    let section = format!(
        "\n[filter.authtoken]\nauth_url = [\"http://127.0.0.1:{}/v3\", \"https://localhost:{port}/v3\"]\n\
         cafile = \"ca.pem\"\n{credentials}\n\
         token_cache_time = 2\nwww_authenticate_uri = \"http://keystone.example:5000\"\n",
        free_port(),
    );
    place.write("api-paste.toml", &(paste + &section));
    place.secret("svc-pw", "svc-pw\n");
    place
}

pub const BY_PASSWORD: &str = "username = \"svc\"\npassword_file = \"svc-pw\"\nproject_name = \"service\"";

fn get(server: &Server<'_>, path: &str, headers: &[(&str, &str)]) -> Reply {
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    send(server.api, "GET", path, &headers, "")
}

/// Headers in which a client might claim to be somebody, and what he would say.
const CLAIMS: [(&str, &str); 25] = [
    ("X-Roles", "admin"),
    ("X-Role", "admin"),
    ("X-User", "admin"),
    ("X-User-Id", "admin"),
    ("X-User-Name", "admin"),
    ("X-User-Domain-Id", "default"),
    ("X-Project-Id", "belle"),
    ("X-Project-Name", "belle"),
    ("X-Project-Domain-Id", "default"),
    ("X-Tenant", "belle"),
    ("X-Tenant-Id", "belle"),
    ("X-Tenant-Name", "belle"),
    ("X-Domain-Id", "default"),
    ("X-Domain-Name", "Default"),
    ("X-Identity-Status", "Confirmed"),
    ("X-Is-Admin", "True"),
    ("X-Is-Admin-Project", "True"),
    ("OpenStack-System-Scope", "all"),
    ("X-System-Scope", "all"),
    ("X-Service-Roles", "admin"),
    ("X-Service-User-Id", "admin"),
    ("X-Service-Project-Id", "belle"),
    ("X-Service-Identity-Status", "Confirmed"),
    ("X-Service-Catalog", "[]"),
    ("X-Trust-Id", "admin"),
];

fn nothing_is_gained_by_claims(server: &Server<'_>, member: &str, own: &str, other: &str) {
    let says = |name: &str, value: &str| {
        let value = if value == "belle" { other } else { value };
        format!("{name}: {value}")
    };
    let spellings: [fn(&str) -> String; 5] = [
        str::to_owned,
        str::to_lowercase,
        str::to_uppercase,
        |name| name.replace('-', "_"),
        |name| name.replacen('-', "_", 1).to_lowercase(),
    ];
    let mut claims: Vec<Vec<String>> = Vec::new();
    for spell in spellings {
        claims.extend(CLAIMS.map(|(name, value)| vec![says(&spell(name), value)]));
        claims.push(CLAIMS.map(|(name, value)| says(&spell(name), value)).into());
    }
    assert_eq!(claims.len(), 5 * 26);
    let token = format!("X-Auth-Token: {member}");
    for claim in &claims {
        let with: Vec<&str> = std::iter::once(&token).chain(claim).map(String::as_str).collect();
        let without: Vec<&str> = claim.iter().map(String::as_str).collect();
        let cases = [
            ("his own", format!("/v2/{own}/clouds"), &with, 200),
            ("an administrator's", format!("/v2/{own}/tokens"), &with, 403),
            ("another project's", format!("/v2/{other}/clouds"), &with, 400),
            ("nobody", format!("/v2/{own}/clouds"), &without, 401),
        ];
        for (what, path, headers, status) in cases {
            let reply = send(server.api, "GET", &path, headers, "");
            assert_eq!(reply.status, status, "{what} {claim:?}: {}", reply.text);
        }
    }
}

#[test]
fn a_real_keystone_says_who_calls() {
    let Some(venv) = installed() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut keystone = Keystone::start(venv, folder.path());
    let [atlas, belle, services] = ["atlas", "belle", "service"].map(|name| {
        keystone.make("project", "/v3/projects", json!({ "name": name, "domain_id": "default" }))
    });
    let alice = keystone.user("alice", &atlas, "member");
    keystone.user("boss", &atlas, "admin");
    keystone.user("rita", &atlas, "reader");
    let svc = keystone.user("svc", &services, "service");
    let place = place(&keystone, BY_PASSWORD);
    let (status, _, said) = place.run(&["check"]);
    assert_eq!(status.code(), Some(0), "{said}");
    let server = place.serve();
    let clouds = format!("/v2/{atlas}/clouds");
    let status = |token: &str| get(&server, &clouds, &[("X-Auth-Token", token)]).status;

    // Who has no token is told where to get one.
    for headers in [&[][..], &[("X-Auth-Token", "gAAAAAwrong")], &[("X-Auth-Token", &server.token)]] {
        let reply = get(&server, &clouds, headers);
        let challenge = reply.header("www-authenticate");
        let uri = "Keystone uri=\"http://keystone.example:5000\"";
        assert_eq!((reply.status, challenge), (401, Some(uri)), "{}", reply.text);
    }
    let member = keystone.of("alice", "atlas");
    let reply = get(&server, &clouds, &[("X-Auth-Token", &member)]);
    assert_eq!(
        (reply.status, reply.json()["clouds"][0]["name"].as_str()),
        (200, Some("local")),
        "{}",
        reply.text
    );
    assert_eq!(get(&server, &format!("/v2/{belle}/clouds"), &[("X-Auth-Token", &member)]).status, 400);
    let disable = |token: &str| {
        let token = format!("X-Auth-Token: {token}");
        send(server.api, "POST", &format!("{clouds}/local/action"), &[&token], r#"{"disable": null}"#).status
    };
    assert_eq!(disable(&member), 403);
    assert!((200..300).contains(&disable(&keystone.of("boss", "atlas"))));
    nothing_is_gained_by_claims(&server, &member, &atlas, &belle);

    // Writing takes the role `member`.
    let submit = |token: &str| {
        let headers = [&*format!("X-Auth-Token: {token}"), "Content-Type: application/json"];
        let job = r#"{"job": {"command": ["true"], "memory_mib": 64}}"#;
        send(server.api, "POST", &format!("/v2/{atlas}/jobs"), &headers, job).status
    };
    let reader = keystone.of("rita", "atlas");
    assert_eq!((status(&reader), submit(&reader), submit(&member)), (200, 403, 202));

    // What Keystone does not take is no token.
    for length in [200, 4000, 8192] {
        assert_eq!(status(&"g".repeat(length)), 401, "{length}");
    }

    // A client of OpenStack finds the service in the catalogue.
    let service = keystone.make("service", "/v3/services", json!({ "name": "pileus", "type": "scheduler" }));
    let url = format!("http://{}/v2/%(project_id)s", server.api);
    let endpoint = json!({ "service_id": service, "interface": "public", "url": url });
    keystone.make("endpoint", "/v3/endpoints", endpoint);
    let script = "\
import sys
from keystoneauth1 import session
from keystoneauth1.identity import v3
who = v3.Password(auth_url=sys.argv[1], username='alice', password='alice-pw', project_name='atlas',
                  user_domain_id='default', project_domain_id='default')
reply = session.Session(auth=who).get('/clouds', endpoint_filter={'service_type': 'scheduler'})
print(reply.status_code, reply.json()['clouds'][0]['name'])
";
    let mut python = Command::new(keystone.venv.join("bin/python"));
    python.args(["-c", script]).arg(format!("http://127.0.0.1:{}/v3", keystone.port));
    let output = python.output().expect("Python");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.trim(), "200 local", "{}", String::from_utf8_lossy(&output.stderr));

    // Tokens without a project know who calls, and no project is his.
    let admin = password("admin", "admin-pw");
    let of_admin = keystone.id_of("users", "admin");
    keystone.put(&format!("/v3/domains/default/users/{of_admin}/roles/{}", keystone.id_of("roles", "admin")));
    let scopes = [
        ("the system", Some(json!({ "system": { "all": true } }))),
        ("a domain", Some(json!({ "domain": { "id": "default" } }))),
        ("nothing", Some(json!("unscoped"))),
    ];
    for (what, scope) in scopes {
        let token = keystone.token(admin.clone(), scope).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(status(&token), 400, "{what}");
    }

    // An application credential has the rights that its user gave it; Pileus itself may have one too.
    let credential = |user: &str, token: &str, roles: &[&str]| -> (String, String) {
        let path = format!("/v3/users/{user}/application_credentials");
        let mut what = json!({ "name": format!("it {roles:?}") });
        if !roles.is_empty() {
            what["roles"] = roles.iter().map(|role| json!({ "name": role })).collect();
        }
        let reply = keystone.call("POST", &path, token, json!({ "application_credential": what }));
        let made = reply.json()["application_credential"].take();
        let text = |key: &str| made[key].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        (text("id"), text("secret"))
    };
    let by = |(id, secret): (String, String)| {
        let proof = json!({
            "methods": ["application_credential"], "application_credential": { "id": id, "secret": secret },
        });
        keystone.token(proof, None).expect("a token")
    };
    let restricted = by(credential(&alice, &member, &["reader"]));
    assert_eq!((status(&restricted), submit(&restricted)), (200, 403), "of a member, restricted to read");
    let by_credential = by(credential(&alice, &member, &[]));
    assert_eq!((status(&by_credential), disable(&by_credential), submit(&by_credential)), (200, 403, 202));
    let of_service = keystone.of("svc", "service");
    let (id, secret) = credential(&svc, &of_service, &[]);
    let other = self::place(
        &keystone,
        &format!("application_credential_id = \"{id}\"\napplication_credential_secret = \"{secret}\""),
    );
    let second = other.serve();
    assert_eq!(get(&second, &clouds, &[("X-Auth-Token", &member)]).status, 200);
    drop(second);

    // A service may hand on a request; one that is not what it says spoils it.
    for (service, expected) in [(&of_service, 200), (&member, 401), (&"gAAAAAwrong".to_owned(), 401)] {
        let headers = [("X-Auth-Token", member.as_str()), ("X-Service-Token", service)];
        assert_eq!(get(&server, &clouds, &headers).status, expected);
    }

    // What is revoked is refused once the answer of before is too old.
    let gone = keystone.of("alice", "atlas");
    assert_eq!(status(&gone), 200);
    let headers = [format!("X-Auth-Token: {}", keystone.admin), format!("X-Subject-Token: {gone}")];
    let reply = send(keystone.address(), "DELETE", "/v3/auth/tokens", &[&headers[0], &headers[1]], "");
    assert_eq!(reply.status, 204, "{}", reply.text);
    let until = |token: &str, expected: u16| {
        await_some(&format!("{expected}"), || match status(token) {
            status if status == expected => Ok(()),
            status => Err(status),
        });
    };
    until(&gone, 401);

    // Without a Keystone nobody gets in; with it, whoever did before.
    keystone.kill();
    until(&member, 503);
    let reply = get(&server, &clouds, &[("X-Auth-Token", &member)]);
    assert_eq!((reply.top().as_str(), reply.header("retry-after")), ("serviceUnavailable", Some("2")));
    assert_eq!(get(&server, &clouds, &[]).status, 401, "that is known without it");
    // From now on tokens live for seconds, also that of Pileus.
    keystone.serve(6);
    until(&member, 200);
    let short = keystone.of("alice", "atlas");
    until(&short, 401);
    let of_service = keystone.of("svc", "service");
    let headers = [("X-Auth-Token", short.as_str()), ("X-Service-Token", of_service.as_str())];
    assert_eq!(get(&server, &clouds, &headers).status, 200, "ended, and handed on by a service");
    assert_eq!(status(&short), 401, "and by nobody");

    let (_, log) = server.stop();
    assert!(log.contains("Keystone could not be asked"), "{log}");
    for secret in [&member, &of_service, &by_credential, "svc-pw"] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}
