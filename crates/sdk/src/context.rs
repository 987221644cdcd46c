//! What is known of a request beside its bytes: one typed value, set by stages, never by headers.

use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::{Arc, LazyLock, OnceLock, atomic::AtomicU64},
};

use bytes::Bytes;
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use pileus_model::{Actor, BoxFuture, Name, RequestKey};
use serde_json::Value;
use smallvec::SmallVec;

use crate::{Admission, Decide, Fault, Media, Mount, Route};

/// The key of [`Caller::hash`].
static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Who calls.
#[derive(Clone, PartialEq)]
pub struct Caller {
    /// The user.
    pub user: Name,
    /// The project that the token is for.
    pub project: Name,
    /// Roles, as the identity gave them.
    pub roles: Vec<String>,
    /// What the identity says of being an administrator, for rules that test `is_admin:True`.
    pub is_admin: bool,
    /// The same as JSON: what a policy rule tests on its left side (`user_id`, `project_id`,
    /// `roles`, `is_admin`, …). Made once with the caller, not once a request.
    pub creds: Value,
    hash: u64,
}

impl Caller {
    /// A caller, with its credentials in the form that rules test.
    pub fn new(user: Name, project: Name, roles: Vec<String>, is_admin: bool) -> Self {
        let creds = serde_json::json!({
            "user_id": &*user, "project_id": &*project, "roles": roles, "is_admin": is_admin,
        });
        let hash = KEYED.hash_one((&*user, &*project));
        Self { user, project, roles, is_admin, creds, hash }
    }

    /// Of user and project: keyed, so that nobody can choose whose hash is his, too. The same as long as
    /// this process lives, whichever token he comes with.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({} of {})", self.user, self.project)
    }
}

/// The name of a request: `req-` and a UUID. As large as that and no larger, so that who keeps it copies it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    text: [u8; Self::MAX],
    length: u8,
}

impl RequestId {
    /// The length of `req-` and a UUID, in bytes.
    pub const MAX: usize = 40;

    /// Id of no request.
    pub const EMPTY: Self = Self { text: [0; Self::MAX], length: 0 };

    /// From a text; empty where it is longer than [`RequestId::MAX`].
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        let (mut id, text) = (Self::default(), text.as_ref());
        if let Some(room) = id.text.get_mut(..text.len()) {
            room.copy_from_slice(text);
            id.length = text.len() as u8;
        }
        id
    }

    /// `req-…`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Returns the same as bytes, without a check that they are UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.length.into()).unwrap_or_default()
    }

    /// As a header has it; `None` where it is empty, or no header may say it. One allocation, shared by all
    /// clones of the value.
    pub fn value(&self) -> Option<HeaderValue> {
        // A text that has its whole room need not be cut, and an array knows its length.
        let text = if usize::from(self.length) == Self::MAX {
            Bytes::from_owner(self.text)
        } else {
            Bytes::copy_from_slice(self.as_str().as_bytes())
        };
        HeaderValue::from_maybe_shared(text).ok().filter(|value| !value.is_empty())
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where parameters stand in a path, in bytes. Four need no allocation.
pub type Places = SmallVec<[Range<u32>; 4]>;

/// The route that a request matched.
#[derive(Debug, Clone)]
pub struct Match {
    /// The route.
    pub route: Arc<Route>,
    /// Which of its router's routes it is.
    pub number: usize,
    /// Where its parameters stand in the request's path: still percent-encoded, in the order of
    /// [`Route::params`].
    pub params: Places,
    /// Whether there is a percent sign in the path: nearly all names are sent as they are.
    pub escaped: bool,
}

impl Match {
    /// Where a path parameter stands in the request's path.
    pub fn place(&self, name: &str) -> Option<&Range<u32>> {
        let index = self.route.params.iter().position(|param| &**param == name)?;
        self.params.get(index)
    }

    /// The decoded value of a path parameter; `None` where it is no UTF-8.
    pub fn param<'a>(&self, path: &'a str, name: &str) -> Option<Cow<'a, str>> {
        self.decoded(path, self.place(name)?)
    }

    /// The project that the path begins with, where its route is a tenant's.
    pub fn project<'a>(&self, path: &'a str) -> Option<Cow<'a, str>> {
        let is_tenants = self.route.mount == Mount::Tenant;
        self.decoded(path, self.params.first().filter(|_| is_tenants)?)
    }

    fn decoded<'a>(&self, path: &'a str, range: &Range<u32>) -> Option<Cow<'a, str>> {
        let raw = path.get(range.start as usize..range.end as usize)?;
        if self.escaped { percent_decode_str(raw).decode_utf8().ok() } else { Some(Cow::Borrowed(raw)) }
    }
}

/// What the stage that reports a request wants to know of it when the reply is there: by then the
/// request, and its context with it, has moved down and is gone.
#[derive(Debug, Default)]
pub struct Seen {
    /// Who called.
    pub caller: OnceLock<Arc<Caller>>,
    /// The route that was matched.
    pub route: OnceLock<Arc<Route>>,
}

/// The `rate` member of the `limits` document, for the caller of this context.
pub type RateLimits = dyn Fn(&Context) -> Value + Send + Sync;

/// Ends once the server is told to stop: for replies that would go on for ever.
pub type Draining = dyn Fn() -> BoxFuture<()> + Send + Sync;

/// Facts of the connection that a request came on. One for all its requests.
#[derive(Clone, Default)]
pub struct Connection {
    /// Name of the listener, `api`.
    pub listener: String,
    /// Subject of the client's certificate (RFC 4514), which the listener verified. `None`: there is none.
    pub client_cert: Option<String>,
    /// Ends when the server drains; `None`: never.
    pub draining: Option<Arc<Draining>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.listener)
    }
}

/// Who is at the other end of a socket. No larger than an address: every request bears one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A host, and its port.
    Address(SocketAddr),
    /// A process of this host, on a Unix socket, by the user that it runs as. `None`: it is not known.
    Unix(Option<u32>),
}

impl Peer {
    /// The host's address; of who calls on a Unix socket there is none.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

/// As the access log has it: `192.0.2.1:4711`, `unix:uid=1000`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix(Some(uid)) => write!(f, "unix:uid={uid}"),
            Self::Unix(None) => f.write_str("unix:"),
        }
    }
}

/// What is known of a request beside its bytes. Put in by the server before the first stage.
#[derive(Clone)]
pub struct Context {
    /// `req-…`; empty until `request_id` has set it.
    pub request_id: RequestId,
    /// Who is at the other end of the socket.
    pub peer: Peer,
    /// The address of our end, where it has one and the server said it.
    pub local: Option<SocketAddr>,
    /// How many bytes of the path the mounts above have taken (`SCRIPT_NAME`).
    pub mounted: u32,
    /// Whether the listener speaks TLS: links then start with `https`.
    pub secure: bool,
    /// In which form the client reads faults.
    pub media: Media,
    /// Who calls; set by an authenticator.
    pub caller: Option<Arc<Caller>>,
    /// Admission of the request, for answers that go on; set by an authenticator.
    pub admission: Option<Admission>,
    /// The route; set by the first stage that needs it.
    pub matched: Option<Match>,
    /// Decides rules; set by `policy`.
    pub policy: Option<Arc<dyn Decide>>,
    /// Shows the rate limits of a caller as the `limits` document has them; set by `ratelimit`. One
    /// for all requests, so that a request pays a reference count for it.
    pub rate_limits: Option<Arc<RateLimits>>,
    /// Where to leave what the reply's report names; set by `trace` while somebody listens to it.
    pub seen: Option<Arc<Seen>>,
    /// The request's idempotency key; set by `idempotency`.
    pub key: Option<Arc<RequestKey>>,
    /// What stages below the one that looks have taken together, in nanoseconds; set in a request that is
    /// timed.
    pub spent_ns: Option<Arc<AtomicU64>>,
    /// Connection that the request came on; `None` if no server has set it.
    pub connection: Option<Arc<Connection>>,
}

impl Context {
    /// What is known of a request when it comes in.
    pub fn new(peer: impl Into<Peer>) -> Self {
        Self {
            request_id: RequestId::default(),
            peer: peer.into(),
            local: None,
            mounted: 0,
            secure: false,
            media: Media::Json,
            caller: None,
            admission: None,
            matched: None,
            policy: None,
            rate_limits: None,
            seen: None,
            key: None,
            spent_ns: None,
            connection: None,
        }
    }

    /// Leaves caller and route, as far as they are known, where `trace` finds them. For the stages
    /// that set them.
    pub fn note(&self) {
        let Some(seen) = &self.seen else { return };
        // Several stages call this: a reference that is not kept is not counted either.
        if let Some(caller) = &self.caller
            && seen.caller.get().is_none()
        {
            let _ = seen.caller.set(caller.clone());
        }
        if let Some(matched) = &self.matched
            && seen.route.get().is_none()
        {
            let _ = seen.route.set(matched.route.clone());
        }
    }

    /// Returns a future that ends when the server drains; `None`: it never does.
    pub fn draining(&self) -> Option<BoxFuture<()>> {
        self.connection.as_ref()?.draining.as_ref().map(|draining| draining())
    }

    /// On whose behalf this request changes something.
    pub fn actor(&self) -> Actor {
        let (user, project) = match &self.caller {
            Some(caller) => (caller.user.clone(), caller.project.clone()),
            None => (Name::default(), Name::default()),
        };
        let key = self.key.clone();
        Actor { user, project, request_id: self.request_id.as_str().into(), comment: None, key }
    }

    /// The caller, or 401.
    pub fn known_caller(&self) -> Result<&Arc<Caller>, Fault> {
        self.caller.as_ref().ok_or(Fault::Unauthorized { challenge: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_costs_no_more_than_an_address() {
        assert_eq!(size_of::<Peer>(), size_of::<SocketAddr>());
    }
}
