//! `tokens`: the embedded identity. Who calls is what the engine knows of the token he sends.
//!
//! Stands above `ratelimit` and `policy`, which ask who calls. The token comes in `X-Auth-Token`, or
//! as `Authorization: Bearer`; the engine knows its SHA-256 alone. What is not known is refused (401),
//! and nobody is told why. The token is taken out of its header, so that no log and no stage below sees it.
//!
//! A caller is built once for a token, not once for a request: the cache holds him as long as the
//! view holds the very same tokens. A revoked token is unknown with the next view. The clock is read for tokens
//! that expire, and for no others.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pileus_model::{BoxFuture, Clock, Engine, Name, OrdMap, Time, Token};
use pileus_sdk::{Admission, Admit, Caller, Fault, Filter, Secrets};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, Fact, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind {
    name: "tokens",
    capabilities: |_| Capabilities::NONE.provides(&[Fact::Caller]).authenticates(),
    factory,
};

static X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Callers that are kept; one takes about a kilobyte.
const MAX_CALLERS: usize = 8192;

/// The cache is split, so that two requests seldom meet at one lock.
const SHARDS: usize = 16;

/// What a section with `factory = "tokens"` may say: nothing. Tokens are made by `pileus token`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Builds the stage.
pub fn factory(section: &Section, deps: &Deps) -> Result<Filter, Diagnostic> {
    let Config {} = section.parse()?;
    let identity = Arc::new(Identity::new(deps.engine.clone(), deps.clock.clone()));
    Ok(Filter::gate(move |request| {
        let caller = caller(request.headers_mut(), &identity);
        let challenge = || Some("Bearer realm=\"pileus\"".to_owned());
        let (caller, user) = caller.ok_or_else(|| Fault::Unauthorized { challenge: challenge() })?;
        let context = request.context_mut();
        context.caller = Some(caller);
        context.admission = Some(Admission::new(identity.clone(), Secrets { user, service: None }));
        context.note();
        Ok(())
    }))
}

/// Who calls, and the header that says so. `X-Auth-Token` is looked at first, and if it is there, alone.
fn caller(headers: &mut HeaderMap, identity: &Identity) -> Option<(Arc<Caller>, HeaderValue)> {
    let [token, authorization] = take_secrets(headers, [&X_AUTH_TOKEN, &header::AUTHORIZATION]);
    let secret = match (&token, &authorization) {
        (Some(token), _) => token.as_bytes(),
        (None, Some(authorization)) => bearer(authorization.as_bytes())?,
        (None, None) => return None,
    };
    let caller = identity.caller(secret).filter(|_| !secret.is_empty())?;
    Some((caller, token.or(authorization)?))
}

/// The secret of `Authorization: Bearer SECRET`.
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, secret) = authorization.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| secret.trim_ascii())
}

/// Takes the secrets that these headers hold, of each the first: nobody below needs them, and what is not
/// there cannot leak. The headers stay, and are empty: to remove one, and to move the others into its place,
/// costs six times as much.
pub(super) fn take_secrets<const N: usize>(
    headers: &mut HeaderMap,
    names: [&HeaderName; N],
) -> [Option<HeaderValue>; N] {
    let mut taken = [const { None }; N];
    for (name, value) in headers.iter_mut() {
        if let Some((_, place)) = names.iter().zip(&mut taken).find(|(it, _)| **it == name) {
            let secret = std::mem::replace(value, HeaderValue::from_static(""));
            place.get_or_insert(secret);
        }
    }
    taken
}

type Hash = [u8; 32];

/// Knows callers by their tokens: each under some bytes of the hash, which tell an onlooker nothing that he
/// could use. The last word is a comparison whose time does not depend on what is compared.
struct Identity {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    callers: [Shard; SHARDS],
}

type Shard = RwLock<HashMap<u64, Known, BuildHasherDefault<Taken>>>;

/// Under what a hash's caller is kept. Not of the first byte, which has chosen the shard.
fn key(hash: &Hash) -> u64 {
    hash.last_chunk().map_or(0, |some| u64::from_ne_bytes(*some))
}

/// The hash of a hash: some bytes of it. Nobody can choose them without finding secrets for them.
#[derive(Default)]
pub(super) struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not the first, which has chosen the shard. What is shorter is the hash's length.
        if let Some(some) = bytes.get(1..).and_then(|rest| rest.first_chunk()) {
            self.0 = u64::from_ne_bytes(*some);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// Whether two hashes are one, in a time that does not depend on them. By words: by bytes it is a tenth of
/// this stage.
fn same(one: &Hash, other: &Hash) -> bool {
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    let same =
        |(one, other): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*one).ct_eq(&u64::from_ne_bytes(*other));
    words.map(same).fold(Choice::from(1), |all, word| all & word).into()
}

struct Known {
    hash: Hash,
    /// Good while the view holds these very tokens: any change of any token makes all be looked up
    /// again.
    tokens: OrdMap<Name, Arc<Token>>,
    /// The newest view that was seen to hold them.
    seq: AtomicU64,
    /// End of the token's validity, where it has one.
    expires: Option<Time>,
    caller: Arc<Caller>,
}

impl Known {
    /// Whether the engine's tokens are still those. Costs a look at the newest view's number, and one at
    /// the view where that is another.
    fn holds(&self, engine: &dyn Engine) -> bool {
        if self.seq.load(Ordering::Relaxed) == engine.seq() {
            return true;
        }
        let view = engine.view();
        let holds = self.tokens.ptr_eq(&view.tokens);
        if holds {
            self.seq.store(view.seq, Ordering::Relaxed);
        }
        holds
    }
}

impl Identity {
    fn new(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Self {
        Self { engine, clock, callers: Default::default() }
    }

    fn caller(&self, secret: &[u8]) -> Option<Arc<Caller>> {
        let hash: Hash = Sha256::digest(secret).into();
        let callers = &self.callers[usize::from(hash[0]) % SHARDS];
        if let Some(known) = callers.read().unwrap_or_else(PoisonError::into_inner).get(&key(&hash))
            && same(&known.hash, &hash)
            && known.holds(&*self.engine)
            && known.expires.is_none_or(|expires| self.clock.now() < expires)
        {
            return Some(known.caller.clone());
        }
        self.look_up(hash, callers)
    }

    /// The caller whom the cache does not know.
    #[cold]
    fn look_up(&self, hash: Hash, callers: &Shard) -> Option<Arc<Caller>> {
        let view = self.engine.view();
        let mut hex = [0; 64];
        let token = view.tokens.get(hex_of(&hash, &mut hex))?;
        if !token.is_valid_at(self.clock.now()) {
            return None;
        }
        let is_admin = token.roles.iter().any(|role| role == "admin");
        let caller = Caller::new(token.user.clone(), token.project.clone(), token.roles.clone(), is_admin);
        let caller = Arc::new(caller);
        let seq = AtomicU64::new(view.seq);
        let known =
            Known { hash, tokens: view.tokens.clone(), seq, expires: token.expires, caller: caller.clone() };
        let mut callers = callers.write().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= MAX_CALLERS / SHARDS {
            // Only those whose token is known come in: a stranger cannot fill it.
            callers.retain(|_, known| known.tokens.ptr_eq(&view.tokens));
            if callers.len() >= MAX_CALLERS / SHARDS {
                callers.clear();
            }
        }
        callers.insert(key(&hash), known);
        Some(caller)
    }
}

impl Admit for Identity {
    fn admit(self: Arc<Self>, secrets: Secrets) -> BoxFuture<Option<Arc<Caller>>> {
        // No secret has a blank in it: what begins with `Bearer ` is of the header `Authorization`.
        let secret = secrets.user.as_bytes();
        let caller = self.caller(bearer(secret).unwrap_or(secret));
        Box::pin(std::future::ready(caller))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// Lower-case hex, without an allocation.
fn hex_of<'a>(hash: &Hash, hex: &'a mut [u8; 64]) -> &'a str {
    let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(hash) {
        pair[0] = digit(byte >> 4);
        pair[1] = digit(*byte);
    }
    std::str::from_utf8(hex).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;
    use pileus_model::View;
    use pileus_sdk::Body;
    use serde_json::json;

    use pileus_sdk::{Request, Response};

    use super::*;
    use crate::filters::testing::{Shown, build, deps, over, request};

    fn token(secret: &str, user: &str, roles: &[&str]) -> Token {
        let hash: Hash = Sha256::digest(secret).into();
        Token {
            sha256: hex_of(&hash, &mut [0; 64]).into(),
            name: "laptop".into(),
            user: user.into(),
            project: "p1".into(),
            roles: roles.iter().map(|role| role.to_string()).collect(),
            created: Time(0),
            expires: None,
        }
    }

    fn show(engine: &Shown, tokens: &[Token]) {
        let mut shown = engine.0.lock().unwrap();
        let mut view = View { seq: shown.seq + 1, ..View::default() };
        for token in tokens {
            view.tokens.insert(token.sha256.clone(), Arc::new(token.clone()));
        }
        *shown = Arc::new(view);
    }

    async fn creds(mut request: Request) -> Result<Response, Fault> {
        assert!(request.headers().values().all(|value| value.is_empty()), "a token goes on");
        let caller = request.context_mut().known_caller()?;
        Ok(Response::new(Body::from(caller.creds.to_string())))
    }

    #[test]
    fn the_key_is_the_hash_in_lower_case_hex() {
        // Printed by `printf secret | sha256sum`.
        let known = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        assert_eq!(&*token("secret", "", &[]).sha256, known);
    }

    #[tokio::test]
    async fn a_known_token_says_who_calls_and_others_are_refused() {
        let (deps, _, engine) = deps();
        show(&engine, &[token("s3cret", "ann", &["member"]), token("s3cret-2", "root", &["x", "admin"])]);
        let stack = over(KIND, "", &deps, creds);
        let ann = json!({"user_id": "ann", "project_id": "p1", "roles": ["member"], "is_admin": false});
        let root = json!({"user_id": "root", "project_id": "p1", "roles": ["x", "admin"], "is_admin": true});
        let cases: [(&[(&str, &str)], _); 14] = [
            (&[("x-auth-token", "s3cret")], Some(&ann)),
            (&[("x-auth-token", "s3cret-2")], Some(&root)),
            (&[("authorization", "Bearer s3cret")], Some(&ann)),
            (&[("authorization", "bEARER  s3cret")], Some(&ann)),
            (&[("x-auth-token", "s3cret"), ("authorization", "Bearer s3cret-2")], Some(&ann)),
            (&[("x-auth-token", "wrong"), ("authorization", "Bearer s3cret")], None),
            (&[("x-auth-token", ""), ("authorization", "Bearer s3cret")], None),
            (&[], None),
            (&[("x-auth-token", "S3cret")], None),
            (&[("x-auth-token", "s3cre")], None),
            (&[("authorization", "Basic s3cret")], None),
            (&[("authorization", "Bearer")], None),
            (&[("authorization", "Bearer ")], None),
            (&[("x-auth-token", &token("s3cret", "", &[]).sha256)], None), // the hash is no token
        ];
        for _ in 0..2 {
            for (headers, expected) in &cases {
                let answer = stack.send(request(Method::GET, "/", headers)).await;
                match (answer, expected) {
                    (Ok(response), Some(expected)) => {
                        let body: serde_json::Value =
                            serde_json::from_slice(&response.body().bytes().unwrap()).unwrap();
                        assert_eq!(body, **expected, "{headers:?}");
                    }
                    (Err(fault), None) => {
                        let response = fault.into_response();
                        assert_eq!(response.status(), 401, "{headers:?}");
                        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"pileus\"");
                    }
                    (answer, _) => panic!("{headers:?}: {answer:?}"),
                }
            }
        }
    }

    #[test]
    fn a_caller_is_built_once_and_goes_with_his_token() {
        let (deps, _, engine) = deps();
        let identity = Identity::new(deps.engine.clone(), deps.clock.clone());
        show(&engine, &[token("s", "ann", &["member"])]);
        let first = identity.caller(b"s").unwrap();
        assert!(Arc::ptr_eq(&first, &identity.caller(b"s").unwrap()), "kept");
        // Another view with the same token in it.
        let view = engine.0.lock().unwrap().clone();
        *engine.0.lock().unwrap() = Arc::new(View { seq: 5, ..(*view).clone() });
        assert!(Arc::ptr_eq(&first, &identity.caller(b"s").unwrap()), "kept over views");
        // The token was made anew, with other rights.
        show(&engine, &[token("s", "ann", &["admin"])]);
        assert!(identity.caller(b"s").unwrap().is_admin);
        show(&engine, &[]);
        assert!(identity.caller(b"s").is_none(), "revoked");
    }

    #[test]
    fn a_token_ends_at_its_time_whether_it_is_cached_or_not() {
        let (deps, clock, engine) = deps();
        let now = deps.clock.now();
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let expiring = |secret: &str, expires: Option<Time>| Token { expires, ..token(secret, "ann", &[]) };
        show(
            &engine,
            &[
                expiring("never", None),
                expiring("past", Some(Time(0))),
                expiring("now", Some(now)),
                expiring("minute", Some(now.after(minute))),
                expiring("hour", Some(now.after(minute * 60))),
            ],
        );
        let identity = Identity::new(deps.engine.clone(), deps.clock.clone());
        let steps = [
            (Duration::ZERO, ["never", "minute", "hour"].as_slice()),
            (minute - second, &["never", "minute", "hour"]),
            (second, &["never", "hour"]),
            (minute * 60, &["never"]),
        ];
        for (passes, valid) in steps {
            clock.advance(passes);
            for secret in ["never", "past", "now", "minute", "hour"] {
                // The second look meets the cache.
                for look in 0..2 {
                    let known = identity.caller(secret.as_bytes()).is_some();
                    assert_eq!(known, valid.contains(&secret), "{secret} at {:?}, look {look}", clock.now());
                }
            }
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let (deps, _, engine) = deps();
        let identity = Identity::new(deps.engine.clone(), deps.clock.clone());
        let tokens: Vec<_> = (0..MAX_CALLERS + 500).map(|it| token(&it.to_string(), "ann", &[])).collect();
        show(&engine, &tokens);
        for secret in 0..tokens.len() {
            assert!(identity.caller(secret.to_string().as_bytes()).is_some());
        }
        let kept: usize = identity.callers.iter().map(|shard| shard.read().unwrap().len()).sum();
        assert!(kept <= MAX_CALLERS && kept > SHARDS, "{kept}");
    }

    #[test]
    fn it_takes_no_settings() {
        let (deps, ..) = deps();
        assert!(build(KIND, "tokens = ['x']", &deps).is_err());
    }
}
