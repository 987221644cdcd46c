//! `healthcheck`: tells load balancers whether to send requests here.
//!
//! Stands above an authenticator, or ends a pipeline as the app `healthcheck`. Answers `GET` and `HEAD`
//! at its path, whatever stands below: 200 (`HEAD`: 204), or 503 where the engine cannot work (its writer, its
//! reconcilers) or a backend says no. Other requests go down, and pay one comparison. The backends are
//! oslo.middleware's, and so is what they answer:
//!
//! - `disable_by_file`: says no while `disable_by_file_path` is there;
//! - `disable_by_files_ports`: the same, a file for each port: `disable_by_file_paths = ["8774:/run/off"]`.
//!
//! Text, or JSON for who asks for it. `detailed` says which file it was, and what runs here: it is off,
//! because it is told to everybody whom `allowed_source_ranges` lets ask.
//! Source: oslo.middleware, `healthcheck/__init__.py`, `disable_by_file.py`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pileus_model::{Clock, Engine, Time};
use pileus_sdk::{Answer, Body, Filter, Request, Response, json, media::quality, path, rfc3339};
use serde::Deserialize;

use crate::{
    diagnostic::Diagnostic,
    network::Network,
    paste::Section,
    pipeline::{Capabilities, Deps, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind =
    FilterKind { name: "healthcheck", capabilities: |_| Capabilities::NONE, factory };

/// What a section with `factory = "healthcheck"` may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the filter answers: the whole path. The app answers wherever it is mounted.
    #[serde(default = "default_path")]
    path: String,
    /// Whether to say which file it was, and what runs here.
    #[serde(default)]
    detailed: bool,
    /// Backends that are asked beside the engine.
    #[serde(default)]
    backends: Vec<Backend>,
    /// For `disable_by_file`.
    disable_by_file_path: Option<PathBuf>,
    /// For `disable_by_files_ports`: `PORT:PATH`.
    #[serde(default)]
    disable_by_file_paths: Vec<String>,
    /// Whom it answers; all, where it names nobody. Others go down.
    #[serde(default)]
    allowed_source_ranges: Vec<Network>,
}

/// Who says whether all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Backend {
    /// One file.
    DisableByFile,
    /// A file for each port.
    DisableByFilesPorts,
}

fn default_path() -> String {
    "/healthcheck".into()
}

/// Builds the stage.
pub fn factory(section: &Section, deps: &Deps) -> Result<Filter, Diagnostic> {
    let health = Arc::new(Health::new(section, deps.clock.clone(), deps.engine.clone())?);
    Ok(Filter::around(move |inner, request| {
        let asked = health.is_at(request.uri().path())
            && matches!(*request.method(), Method::GET | Method::HEAD)
            && health.answers(&request);
        if asked { Answer::now(Ok(health.answer(&request))) } else { inner.send(request) }
    }))
}

/// The settings, checked.
pub(crate) struct Health {
    path: String,
    detailed: bool,
    /// With their ports; `None`: any.
    files: Vec<(Backend, Option<u16>, PathBuf)>,
    backends: Vec<Backend>,
    allowed: Vec<Network>,
    clock: Arc<dyn Clock>,
    engine: Arc<dyn Engine>,
}

/// Finding of a backend or of the engine.
struct Finding {
    backend: &'static str,
    /// `None`: all is well.
    wrong: Option<String>,
    details: String,
}

impl Health {
    /// From a section of the filter or of the app.
    pub(crate) fn new(
        section: &Section,
        clock: Arc<dyn Clock>,
        engine: Arc<dyn Engine>,
    ) -> Result<Self, Diagnostic> {
        let config: Config = section.parse()?;
        if !config.path.starts_with('/') {
            return Err(section.wrong("path", format!("`{}` does not start with `/`", config.path)));
        }
        let mut files = Vec::new();
        for backend in &config.backends {
            match backend {
                Backend::DisableByFile => {
                    let missing = "`disable_by_file` needs a `disable_by_file_path`";
                    let path = config.disable_by_file_path.clone();
                    files.push((*backend, None, path.ok_or_else(|| section.wrong("backends", missing))?));
                }
                Backend::DisableByFilesPorts => {
                    if config.disable_by_file_paths.is_empty() {
                        let missing = "`disable_by_files_ports` needs `disable_by_file_paths`";
                        return Err(section.wrong("backends", missing));
                    }
                    for (index, text) in config.disable_by_file_paths.iter().enumerate() {
                        let read = text.split_once(':').filter(|(_, path)| !path.is_empty());
                        let read = read.and_then(|(port, path)| Some((port.parse().ok()?, path)));
                        let key = format!("disable_by_file_paths.{index}");
                        let wrong = format!("`{text}` is not `PORT:PATH`, as in `8774:/run/pileus.off`");
                        let (port, path) = read.ok_or_else(|| section.wrong(&key, wrong))?;
                        files.push((*backend, Some(port), path.into()));
                    }
                }
            }
        }
        let path = path::normal(&config.path).map_err(|fault| section.wrong("path", fault.to_string()))?;
        let (path, detailed) = (path.into_owned(), config.detailed);
        Ok(Self {
            path,
            detailed,
            files,
            backends: config.backends,
            allowed: config.allowed_source_ranges,
            clock,
            engine,
        })
    }

    /// `true` if the filter answers at this path. Slashes that repeat are one, as for the app in a `urlmap`.
    fn is_at(&self, path: &str) -> bool {
        path == self.path || path.len() > self.path.len() && path::collapsed(path) == self.path
    }

    /// Whether who asks is answered.
    pub(crate) fn answers(&self, request: &Request) -> bool {
        let peer = request.context().peer;
        self.allowed.is_empty() || self.allowed.iter().any(|network| network.holds(peer))
    }

    /// How things stand.
    pub(crate) fn answer(&self, request: &Request) -> Response {
        let port = request.context().local.map(|local: SocketAddr| local.port());
        let mut findings: Vec<Finding> =
            self.backends.iter().map(|backend| self.ask(*backend, port)).collect();
        // Well, it is not mentioned: the answer stays oslo's.
        let problems = self.engine.problems();
        if !problems.is_empty() {
            let wrong = Some(format!("ENGINE CANNOT WORK: {}", problems.join("; ")));
            findings.push(Finding { backend: "EngineHealthcheck", wrong, details: String::new() });
        }
        let healthy = findings.iter().all(|finding| finding.wrong.is_none());
        let reasons: Vec<&str> = findings.iter().map(Finding::reason).collect();
        let head = *request.method() == Method::HEAD;
        let (media, text) = match (head, wants_json(request.headers())) {
            (true, _) => ("text/plain; charset=utf-8", String::new()),
            (false, false) => ("text/plain; charset=utf-8", self.text(&findings, &reasons)),
            (false, true) => ("application/json", self.json(&findings, &reasons)),
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = match (healthy, head) {
            (false, _) => StatusCode::SERVICE_UNAVAILABLE,
            (true, true) => StatusCode::NO_CONTENT,
            (true, false) => StatusCode::OK,
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        // How things stood is of no use to anybody.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        response
    }

    fn ask(&self, backend: Backend, port: Option<u16>) -> Finding {
        let mut mine =
            self.files.iter().filter(|(of, at, _)| *of == backend && (at.is_none() || *at == port));
        let found = mine.find(|(.., path)| is_there(path));
        Finding {
            backend: match backend {
                Backend::DisableByFile => "DisableByFileHealthcheck",
                Backend::DisableByFilesPorts => "DisableByFilesPortsHealthcheck",
            },
            wrong: found.map(|_| "DISABLED BY FILE".to_owned()),
            details: found
                .map(|(.., path)| format!("Path '{}' was found", path.display()))
                .unwrap_or_default(),
        }
    }

    fn text(&self, findings: &[Finding], reasons: &[&str]) -> String {
        if !self.detailed {
            return if reasons.is_empty() { "OK".into() } else { reasons.join("\n") };
        }
        let each = findings.iter().map(|it| format!("{} {} {}", it.backend, it.reason(), it.details));
        let mut lines: Vec<String> = each.map(|line| line.trim_end().to_owned()).collect();
        lines.push(format!("pileus {} {}", env!("CARGO_PKG_VERSION"), self.now()));
        lines.join("\n")
    }

    fn json(&self, findings: &[Finding], reasons: &[&str]) -> String {
        if !self.detailed {
            return json!({ "detailed": false, "reasons": reasons }).to_string();
        }
        let reason =
            |it: &Finding| json!({ "class": it.backend, "details": it.details, "reason": it.reason() });
        let reasons: Vec<_> = findings.iter().map(reason).collect();
        let now = self.now();
        json!({ "detailed": true, "now": now, "reasons": reasons, "version": env!("CARGO_PKG_VERSION") })
            .to_string()
    }

    fn now(&self) -> String {
        let Time(ms) = self.clock.now();
        rfc3339(Time(ms.div_euclid(1000) * 1000)).to_string()
    }
}

impl Finding {
    fn reason(&self) -> &str {
        self.wrong.as_deref().unwrap_or("OK")
    }
}

/// What cannot be looked at is there: who asks is sent elsewhere rather than into the dark.
fn is_there(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

fn wants_json(headers: &HeaderMap) -> bool {
    let wanted = |media: &str| quality(headers, &header::ACCEPT, media).unwrap_or(0);
    wanted("application/json") > wanted("text/plain")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::filters::testing::{build, deps, over, request};

    /// What the filter says: status and text; 404: it went down.
    async fn ask(settings: &str, method: Method, path: &str, accept: &str) -> (u16, String) {
        let (deps, ..) = deps();
        let stack = over(KIND, settings, &deps, |_| async { Err(pileus_sdk::Fault::NoRoute) });
        let mut sent = request(method, path, &[("accept", accept)]);
        sent.context_mut().local = Some("127.0.0.1:8774".parse().unwrap());
        let response = stack.send(sent).await.unwrap_or_else(pileus_sdk::Fault::into_response);
        let text = String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap();
        let status = response.status().as_u16();
        (status, if status == 404 { String::new() } else { text })
    }

    #[tokio::test]
    async fn it_answers_at_its_path_as_oslo_does() {
        let dir = tempfile::tempdir().unwrap();
        let (there, gone) = (dir.path().join("there"), dir.path().join("gone"));
        fs::write(&there, "").unwrap();
        let (there, gone) = (there.display().to_string(), gone.display().to_string());
        let by_file = |path: &str| format!("backends = ['disable_by_file']\ndisable_by_file_path = '{path}'");
        let by_port = |port: u16, path: &str| {
            format!("backends = ['disable_by_files_ports']\ndisable_by_file_paths = ['{port}:{path}']")
        };
        let detailed = |text: String| format!("{text}\ndetailed = true");
        let (get, head) = (Method::GET, Method::HEAD);
        let found = format!("Path '{there}' was found");
        let cases = [
            ("".into(), get.clone(), "/healthcheck", "", 200, "OK".into()),
            ("".into(), get.clone(), "/healthcheck?a=b", "*/*", 200, "OK".into()),
            ("".into(), get.clone(), "/healthcheck/", "", 404, "".into()),
            ("".into(), get.clone(), "/", "", 404, "".into()),
            ("".into(), Method::POST, "/healthcheck", "", 404, "".into()),
            ("".into(), get.clone(), "//healthcheck", "", 200, "OK".into()),
            ("path = '/up'".into(), get.clone(), "/up", "", 200, "OK".into()),
            ("path = '/%75p/a b'".into(), get.clone(), "/up//a%20b", "", 200, "OK".into()),
            ("".into(), head.clone(), "/healthcheck", "", 204, "".into()),
            (by_file(&gone), get.clone(), "/healthcheck", "", 200, "OK".into()),
            (by_file(&there), get.clone(), "/healthcheck", "", 503, "DISABLED BY FILE".into()),
            (by_file(&there), head, "/healthcheck", "", 503, "".into()),
            (by_port(8774, &there), get.clone(), "/healthcheck", "", 503, "DISABLED BY FILE".into()),
            (by_port(8775, &there), get.clone(), "/healthcheck", "", 200, "OK".into()),
            (
                by_file(&there),
                get.clone(),
                "/healthcheck",
                "text/plain;q=0.5, application/json",
                503,
                r#"{"detailed":false,"reasons":["DISABLED BY FILE"]}"#.into(),
            ),
            (
                detailed(by_file(&there)),
                get.clone(),
                "/healthcheck",
                "text/plain",
                503,
                format!(
                    "DisableByFileHealthcheck DISABLED BY FILE {found}\npileus {} 2011-07-21T18:17:06Z",
                    env!("CARGO_PKG_VERSION")
                ),
            ),
            (
                detailed(by_file(&there)),
                get.clone(),
                "/healthcheck",
                "application/json",
                503,
                json!({
                    "detailed": true, "now": "2011-07-21T18:17:06Z", "version": env!("CARGO_PKG_VERSION"),
                    "reasons": [{
                        "class": "DisableByFileHealthcheck", "details": found, "reason": "DISABLED BY FILE",
                    }],
                })
                .to_string(),
            ),
            (
                "allowed_source_ranges = ['192.0.2.0/24']".into(),
                get.clone(),
                "/healthcheck",
                "",
                200,
                "OK".into(),
            ),
            ("allowed_source_ranges = ['10.0.0.0/8']".into(), get, "/healthcheck", "", 404, "".into()),
        ];
        for (settings, method, path, accept, status, text) in cases {
            let answer = ask(&settings, method.clone(), path, accept).await;
            assert_eq!(answer, (status, text), "{settings} {method} {path} {accept}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_cannot_work_is_said() {
        let (deps, _, engine) = deps();
        let json = r#"{"detailed":false,"reasons":["ENGINE CANNOT WORK: a; b"]}"#;
        let cases = [
            (vec![], Method::GET, "text/plain", 200, "OK"),
            (vec!["a", "b"], Method::GET, "text/plain", 503, "ENGINE CANNOT WORK: a; b"),
            (vec!["a", "b"], Method::GET, "application/json", 503, json),
            (vec!["a"], Method::HEAD, "text/plain", 503, ""),
            (vec![], Method::HEAD, "text/plain", 204, ""),
        ];
        for (problems, method, accept, status, text) in cases {
            *engine.1.lock().unwrap() = problems.iter().map(ToString::to_string).collect();
            let stack = over(KIND, "", &deps, |_| async { Err(pileus_sdk::Fault::NoRoute) });
            let response = stack.send(request(method, "/healthcheck", &[("accept", accept)])).await.unwrap();
            let found = String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap();
            assert_eq!((response.status().as_u16(), found.as_str()), (status, text), "{problems:?}");
        }
    }

    #[test]
    fn settings() {
        let (deps, ..) = deps();
        for (text, expected) in [
            ("path = 'up'", "`up` does not start with `/`"),
            ("path = '/../up'", "No segment of a path may be `.` or `..`."),
            ("backends = ['disable_by_file']", "needs a `disable_by_file_path`"),
            ("backends = ['disable_by_files_ports']", "needs `disable_by_file_paths`"),
            ("backends = ['disable_by_fire']", "unknown word `disable_by_fire`"),
            (
                "backends = ['disable_by_files_ports']\ndisable_by_file_paths = ['/run/off']",
                "`/run/off` is not `PORT:PATH`",
            ),
        ] {
            let error = build(KIND, text, &deps).unwrap_err();
            assert!(error.message.contains(expected), "{text}: {}", error.message);
        }
    }
}
