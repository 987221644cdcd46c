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
mod tests;
