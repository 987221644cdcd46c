//! Method, path and query of a request through the shipped pipelines, upon an engine that is not there.
#![no_main]

use std::{
    path::Path,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Waker},
};

use http::Method;
use libfuzzer_sys::fuzz_target;
use pileus::{cli::Options, diagnostic::Report, kept::Kept, serve::Answering};
use pileus_model::{Idle, ManualClock};
use pileus_sdk::{Body, Request, path};

static SERVERS: LazyLock<Vec<Answering>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut options = Options { paste: Some(folder.join("api-paste.toml")), ..Options::default() };
    options.policy = Some(folder.join("policy.json"));
    options.config = Some(folder.join("fuzz/noauth.toml"));
    let mut report = Report::default();
    let checked = pileus::check(&options, &mut report).filter(|_| report.errors() == 0);
    let checked = checked.unwrap_or_else(|| panic!("{}", report.render(false)));
    let built = checked.build(Arc::new(Idle), Arc::new(ManualClock::default()), &Kept::default());
    built.unwrap_or_else(|report| panic!("{}", report.render(false)))
});

fuzz_target!(|input: (u8, &str, &str)| {
    let (which, target, body) = input;
    let methods = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS];
    let method = methods[usize::from(which / 4) % methods.len()].clone();
    let Ok(mut uri) = format!("/{target}").parse::<http::Uri>() else { return };
    if path::normalize(&mut uri).is_err() {
        return;
    }
    // A path in normal form does not change.
    let once = uri.clone();
    assert!(path::normalize(&mut uri).is_ok() && uri == once);
    let Some(server) = SERVERS.get(usize::from(which) % 4 % 3) else { return };
    let request = http::Request::builder().method(method).uri(uri).header("host", "localhost");
    let request = request.header("x-auth-token", "admin:p").header("content-type", "application/json");
    let Ok(request) = request.body(Body::from(body.to_owned())) else { return };
    let mut answer = server.app.send(Request::from(request));
    // What waits for the engine waits for ever here.
    let _ = Pin::new(&mut answer).poll(&mut Context::from_waker(Waker::noop()));
});
