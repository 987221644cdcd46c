//! *Hand*: what a good engineer would write for this one route with axum, tower-http and governor:
//! request id, trace, panics caught, body limit, token, rate limit, role, and the cloud from a map. With an
//! access log, a line for each request goes through one buffer into a file.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write},
    num::NonZeroU32,
    path::Path as FilePath,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderName, StatusCode, header::USER_AGENT},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    limit::RequestBodyLimitLayer,
    request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    trace::TraceLayer,
};

#[derive(Clone)]
struct Caller {
    user: String,
    project: String,
    roles: Vec<String>,
}

struct App {
    tokens: HashMap<[u8; 32], Caller>,
    limiter: DefaultKeyedRateLimiter<String>,
    clouds: RwLock<HashMap<String, Value>>,
    log: Option<Mutex<BufWriter<File>>>,
}

#[derive(Clone, Copy)]
struct NewId;

impl MakeRequestId for NewId {
    fn make_request_id<B>(&mut self, _: &axum::http::Request<B>) -> Option<RequestId> {
        let id = format!("req-{}", uuid::Uuid::new_v4());
        Some(RequestId::new(id.parse().ok()?))
    }
}

/// Size of the log's buffer, in bytes: as that of Pileus.
const LOG_BUFFER: usize = 64 * 1024;

/// Serves one cloud to the holder of `token`, until the process ends. `log` is the file of its access log.
pub async fn serve(
    listener: TcpListener,
    token: &str,
    cloud: Value,
    log: Option<&FilePath>,
) -> io::Result<()> {
    let log = log.map(|path| File::options().append(true).create(true).open(path)).transpose()?;
    let log = log.map(|file| Mutex::new(BufWriter::with_capacity(LOG_BUFFER, file)));
    let name = cloud["cloud"]["name"].as_str().unwrap_or_default().to_owned();
    let caller = Caller {
        user: "admin".into(),
        project: "default".into(),
        roles: vec!["admin".into(), "member".into()],
    };
    let app = Arc::new(App {
        tokens: HashMap::from([(Sha256::digest(token.as_bytes()).into(), caller)]),
        limiter: RateLimiter::keyed(Quota::per_second(NonZeroU32::MAX)),
        clouds: RwLock::new(HashMap::from([(name, cloud)])),
        log,
    });
    let id = HeaderName::from_static("x-openstack-request-id");
    let router = Router::new()
        .route("/v2/{project_id}/clouds/{id}", get(show))
        .route_layer(middleware::from_fn_with_state(app.clone(), limit))
        .route_layer(middleware::from_fn_with_state(app.clone(), authenticate))
        .layer(
            ServiceBuilder::new()
                .layer(SetRequestIdLayer::new(id.clone(), NewId))
                .layer(TraceLayer::new_for_http())
                .layer(middleware::from_fn_with_state(app.clone(), log_request))
                .layer(PropagateRequestIdLayer::new(id))
                .layer(CatchPanicLayer::new())
                .layer(RequestBodyLimitLayer::new(114_688)),
        )
        .with_state(app);
    axum::serve(listener.tap_nodelay(), router).await
}

trait TapNodelay {
    fn tap_nodelay(self) -> axum::serve::TapIo<TcpListener, fn(&mut tokio::net::TcpStream)>;
}

impl TapNodelay for TcpListener {
    fn tap_nodelay(self) -> axum::serve::TapIo<TcpListener, fn(&mut tokio::net::TcpStream)> {
        use axum::serve::ListenerExt;
        self.tap_io(|stream| drop(stream.set_nodelay(true)))
    }
}

fn fault(status: StatusCode, name: &str, message: &str) -> Response {
    (status, Json(json!({ name: { "code": status.as_u16(), "message": message } }))).into_response()
}

async fn authenticate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let token = request.headers().get("x-auth-token").map(|token| Sha256::digest(token.as_bytes()));
    let caller = token.and_then(|hash| app.tokens.get::<[u8; 32]>(&hash.into()));
    let Some(caller) = caller else {
        return fault(StatusCode::UNAUTHORIZED, "unauthorized", "a token is needed");
    };
    request.extensions_mut().insert(caller.clone());
    next.run(request).await
}

// A peer has no clock of Pileus.
#[allow(clippy::disallowed_methods)]
async fn log_request(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(log) = &app.log else { return next.run(request).await };
    let begun = Instant::now();
    let (method, uri, version) = (request.method().clone(), request.uri().clone(), request.version());
    let id = request.extensions().get::<RequestId>().map(|id| id.header_value().clone());
    let agent = request.headers().get(USER_AGENT).cloned();
    let response = next.run(request).await;
    let text = |value: &Option<axum::http::HeaderValue>| {
        value.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    let written = writeln!(
        log,
        "{}.{:06} {} {method} {:?} {version:?} {} {} {:?}",
        now.as_secs(),
        now.subsec_micros(),
        text(&id),
        uri.path(),
        response.status().as_u16(),
        begun.elapsed().as_micros(),
        text(&agent),
    );
    // A full disk is no reason to fail a request.
    written.ok();
    response
}

async fn limit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let user = request.extensions().get::<Caller>().map(|caller| caller.user.clone()).unwrap_or_default();
    if app.limiter.check_key(&user).is_err() {
        return fault(StatusCode::TOO_MANY_REQUESTS, "overLimit", "This request was rate-limited.");
    }
    next.run(request).await
}

async fn show(
    State(app): State<Arc<App>>,
    axum::Extension(caller): axum::Extension<Caller>,
    Path((project, id)): Path<(String, String)>,
) -> Response {
    if caller.project != project {
        return fault(StatusCode::BAD_REQUEST, "badRequest", "Malformed request url");
    }
    if !caller.roles.iter().any(|role| role == "member") {
        return fault(StatusCode::FORBIDDEN, "forbidden", "Policy doesn't allow it.");
    }
    let clouds = app.clouds.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    match clouds.get(&id) {
        Some(cloud) => Json(cloud).into_response(),
        None => fault(StatusCode::NOT_FOUND, "itemNotFound", "Cloud could not be found."),
    }
}
