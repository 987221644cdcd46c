//! Asks Keystone about tokens, with a token of this service's own, which is renewed as it is needed.
//!
//! Several addresses are one Keystone: they are tried in turn, beginning with the one that answered last.
//! Where none answers, none is asked for a while, so that a dead Keystone costs a time-out now and then
//! and not one a request. Connections stay open between questions. A connection that is lost, and an answer that
//! is too long or malformed, concern one question alone.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use pileus_engine::secret_file::{self, Readers};
use pileus_model::{Clock, Monotonic};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};
use tracing::{debug, error, warn};

use super::{
    PAUSE,
    token::{self, Token},
    wire::{self, Address, Question},
};
use crate::client::{Failure, Patience, Pool, Reply, Tls};

/// Questions that are asked at a time; the next one waits.
const AT_ONCE: usize = 64;

/// How long before its end a token of our own is renewed; of a short-lived one, the half of its life.
const AHEAD: Duration = Duration::from_secs(60);

/// How long credentials are not tried again that Keystone has refused: it may lock the account of who
/// tries too often.
const REFUSED: Duration = Duration::from_secs(10);

/// What is never shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Where a password stands.
#[derive(Debug, Clone)]
pub enum Password {
    /// In the settings.
    Said(Secret),
    /// In a file, which is read whenever it is needed: it may change.
    File(PathBuf),
}

/// Password that cannot be read: the reason, and the remedy if there is one.
#[derive(Debug)]
pub struct Unread {
    pub why: String,
    pub help: Option<String>,
}

impl From<Unread> for String {
    fn from(unread: Unread) -> Self {
        match unread.help {
            Some(help) => format!("{}; help: {help}", unread.why),
            None => unread.why,
        }
    }
}

/// By what this service proves who it is.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A user of the project whose role lets him ask about tokens.
    User {
        name: String,
        /// `{"name": …}` or `{"id": …}`, as of the project's.
        domain: Value,
        password: Password,
        project: String,
        project_domain: Value,
    },
    /// What a user made for it.
    ApplicationCredential { id: String, secret: Secret },
}

/// How Keystone is reached.
#[derive(Debug)]
pub struct Reach {
    /// At least one.
    pub addresses: Vec<Address>,
    pub credentials: Credentials,
    /// There wherever an address asks for it.
    pub tls: Option<Tls>,
    pub patience: Patience,
}

/// What is heard of a token.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is good.
    Valid(Arc<Token>),
    /// It is none, or no more.
    Invalid,
    /// Nobody could say.
    Unavailable,
}

/// Why there is no answer.
enum Trouble {
    /// It is known, and was logged before.
    Known,
    /// For the log.
    New(String),
}

/// Asks.
pub struct Keystone {
    reach: Reach,
    /// Projects whose administrators are this service's; `None`: as Keystone says.
    admin_projects: Option<Vec<String>>,
    /// Open connections to each address.
    pools: Vec<Pool>,
    clock: Arc<dyn Clock>,
    /// Which address answered last.
    preferred: AtomicUsize,
    /// Until when nobody is asked, because nobody answered.
    down_until: AtomicU64,
    own: Mutex<Own>,
    at_once: Semaphore,
}

/// The token of this service.
#[derive(Default)]
struct Own {
    token: Option<OwnToken>,
    refused_until: Monotonic,
}

#[derive(Clone)]
struct OwnToken {
    value: HeaderValue,
    renew_at: Monotonic,
    expires: Monotonic,
}

impl Keystone {
    /// Asks nobody yet.
    pub fn new(reach: Reach, admin_projects: Option<Vec<String>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            pools: reach.addresses.iter().map(Address::pool).collect(),
            reach,
            admin_projects,
            clock,
            preferred: AtomicUsize::new(0),
            down_until: AtomicU64::new(0),
            own: Mutex::default(),
            at_once: Semaphore::new(AT_ONCE),
        }
    }

    /// What Keystone says of a token.
    pub async fn validate(&self, subject: &HeaderValue, allow_expired: bool) -> Outcome {
        match self.ask_about(subject, allow_expired).await {
            Ok(Some(token)) => Outcome::Valid(Arc::new(token)),
            Ok(None) => Outcome::Invalid,
            Err(Trouble::Known) => Outcome::Unavailable,
            Err(Trouble::New(why)) => {
                warn!(error = why, "Keystone could not be asked about a token");
                Outcome::Unavailable
            }
        }
    }

    async fn ask_about(&self, subject: &HeaderValue, allow_expired: bool) -> Result<Option<Token>, Trouble> {
        let _permit = self.at_once.acquire().await.map_err(|_| Trouble::Known)?;
        let path = match allow_expired {
            true => "/auth/tokens?nocatalog&allow_expired=1",
            false => "/auth/tokens?nocatalog",
        };
        let mut refused = None;
        // Ours may have been revoked: once, another one is tried.
        for _ in 0..2 {
            let own = self.own_token(refused.as_ref()).await?;
            let tokens = Some((own.clone(), subject.clone()));
            let question = Question { method: Method::GET, path, tokens, body: Bytes::new() };
            let reply = self.ask(question).await?;
            match reply.status {
                StatusCode::OK => {
                    let admin_projects = self.admin_projects.as_deref();
                    return Token::read(&reply.body, self.clock.now(), allow_expired, admin_projects)
                        .map_err(|error| Trouble::New(format!("its answer makes no sense: {error}")));
                }
                // A token that this Keystone does not have, or that its server rejects as too long or malformed.
                StatusCode::NOT_FOUND
                | StatusCode::BAD_REQUEST
                | StatusCode::GONE
                | StatusCode::URI_TOO_LONG
                | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                    debug!(http.status = reply.status.as_u16(), "token rejected by keystone");
                    return Ok(None);
                }
                StatusCode::UNAUTHORIZED => refused = Some(own),
                StatusCode::FORBIDDEN => {
                    let text = "it forbids this service to ask about tokens: give its user the role `service` or `admin`";
                    return Err(Trouble::New(text.into()));
                }
                status => return Err(Trouble::New(format!("it answered {status}"))),
            }
        }
        Err(Trouble::New("it gives this service tokens and refuses them".into()))
    }

    /// A token of our own that is not `refused`. Whoever comes while it is renewed waits for the new one.
    async fn own_token(&self, refused: Option<&HeaderValue>) -> Result<HeaderValue, Trouble> {
        let mut own = self.own.lock().await;
        let now = self.clock.monotonic();
        let last = own.token.clone().filter(|it| now < it.expires && Some(&it.value) != refused);
        if let Some(token) = last.as_ref().filter(|it| now < it.renew_at) {
            return Ok(token.value.clone());
        }
        let made = match now < own.refused_until {
            true => Err(Trouble::Known),
            false => self.authenticate(&mut own.refused_until).await,
        };
        match (made, last) {
            (Ok(token), _) => Ok(own.token.insert(token).value.clone()),
            // The one before is still good.
            (Err(_), Some(token)) => Ok(token.value),
            (Err(trouble), None) => Err(trouble),
        }
    }

    async fn authenticate(&self, refused_until: &mut Monotonic) -> Result<OwnToken, Trouble> {
        let body = self.reach.credentials.document().map_err(Trouble::New)?;
        let (method, path) = (Method::POST, "/auth/tokens?nocatalog");
        let reply = self.ask(Question { method, path, tokens: None, body: body.into() }).await?;
        let now = self.clock.monotonic();
        if reply.status != StatusCode::CREATED {
            *refused_until = now.after(REFUSED);
            error!(
                http.status = reply.status.as_u16(),
                "Keystone gave this service no token: are `auth_url` and the credentials right?"
            );
            return Err(Trouble::Known);
        }
        let garbage = |what: &str| Trouble::New(format!("its token for this service makes no sense: {what}"));
        let mut value =
            reply.headers.get("x-subject-token").cloned().ok_or_else(|| garbage("there is none"))?;
        value.set_sensitive(true);
        let expires = token::expiry(&reply.body).map_err(|error| garbage(&error))?;
        let lives = expires.since(self.clock.now());
        let ahead = AHEAD.min(lives / 2);
        Ok(OwnToken { value, renew_at: now.after(lives - ahead), expires: now.after(lives) })
    }

    /// Asks one address after the other, until one answers.
    async fn ask(&self, question: Question) -> Result<Reply, Trouble> {
        if self.clock.monotonic().0 < self.down_until.load(Ordering::Relaxed) {
            return Err(Trouble::Known);
        }
        let (addresses, first) = (&self.reach.addresses, self.preferred.load(Ordering::Relaxed));
        // One that answers 500 to one token, or breaks off, may know others.
        let (mut troubles, mut silent) = (Vec::new(), true);
        for step in 0..addresses.len() {
            let at = first.wrapping_add(step) % addresses.len();
            let (Some(address), Some(pool)) = (addresses.get(at), self.pools.get(at)) else { break };
            let Reach { tls, patience, .. } = &self.reach;
            match wire::ask(pool, address, question.clone(), tls.as_ref(), *patience, &*self.clock).await {
                Ok(reply) if reply.status.is_server_error() => {
                    silent = false;
                    troubles.push(format!("{} answered {}", address.url, reply.status));
                }
                Ok(reply) => {
                    if !troubles.is_empty() {
                        warn!(
                            error = troubles.join("; "),
                            instead = address.url,
                            "Keystone answered elsewhere"
                        );
                    }
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(reply);
                }
                Err(failure) => {
                    silent &= matches!(failure, Failure::Unreachable(_));
                    troubles.push(format!("{}: {failure}", address.url));
                }
            }
        }
        if silent {
            self.down_until.store(self.clock.monotonic().after(PAUSE).0, Ordering::Relaxed);
        }
        Err(Trouble::New(troubles.join("; ")))
    }
}

impl Credentials {
    /// The body of `POST /v3/auth/tokens`.
    fn document(&self) -> Result<String, String> {
        let auth = match self {
            Self::User { name, domain, password, project, project_domain } => json!({
                "identity": {
                    "methods": ["password"],
                    "password": { "user": { "name": name, "domain": domain, "password": password.read()? } },
                },
                "scope": { "project": { "name": project, "domain": project_domain } },
            }),
            Self::ApplicationCredential { id, secret } => json!({
                "identity": {
                    "methods": ["application_credential"],
                    "application_credential": { "id": id, "secret": secret.0 },
                },
            }),
        };
        Ok(json!({ "auth": auth }).to_string())
    }
}

impl Password {
    /// The password, without the end of its line.
    pub fn read(&self) -> Result<String, Unread> {
        match self {
            Self::Said(secret) => Ok(secret.0.clone()),
            Self::File(path) => {
                let text = secret_file::read_text(path, Readers::OwnerAndGroup);
                let text = text.map_err(|error| Unread { why: error.to_string(), help: error.help() })?;
                let text = text.trim_end_matches(['\r', '\n']);
                if text.is_empty() {
                    Err(Unread { why: format!("{} is empty", path.display()), help: None })
                } else {
                    Ok(text.to_owned())
                }
            }
        }
    }
}
