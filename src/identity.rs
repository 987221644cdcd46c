//! The embedded identity: tokens are random, known to Pileus by their SHA-256 alone.
//!
//! The first start makes the administrator's token and keeps it in `DIR/admin-token` (mode 0600,
//! the token and a newline), the one place where a secret of Pileus lies in clear.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD};
use pileus_model::{Actor, Command, Engine, Refusal};
use sha2::{Digest, Sha256};
use tracing::warn;

/// The name of the administrator's token, which is made once in a state folder's life.
const ADMIN: &str = "admin";

/// Why there is no administrator's token.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file could not be written.
    #[error("{}: the administrator's token cannot be written: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no randomness, or the engine refused.
    #[error("the administrator's token cannot be made: {0}")]
    Refused(String),
}

/// A new secret: 256 random bits in 43 letters, which SHA-256 takes at one go. No line of a shell
/// mistakes the first of them for an option's.
pub fn new_secret() -> Result<String, IdentityError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| IdentityError::Refused(error.to_string()))?;
    let secret = URL_SAFE_NO_PAD.encode(bytes);
    if secret.starts_with('-') { new_secret() } else { Ok(secret) }
}

/// By what a token is known: the SHA-256 of its secret, in lower-case hex.
pub fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Sees to it that the administrator has a token. Answers with the file that holds it.
///
/// The file is written before the token is made known: a crash between the two leaves a file whose
/// token nobody accepts, and the next start writes a new one.
pub async fn ensure_admin(engine: &dyn Engine, state: &Path) -> Result<PathBuf, IdentityError> {
    let path = state.join("admin-token");
    if engine.view().tokens.values().any(|token| &*token.name == ADMIN) {
        // He may have put it in a safer place. No second one is made, which nobody asked for.
        if fs::metadata(&path).map_or(0, |file| file.len()) == 0 {
            warn!(path = %path.display(), "the administrator's token was made by an earlier start, and its file is gone");
        }
        return Ok(path);
    }
    let secret = new_secret()?;
    write_private(&path, &format!("{secret}\n"))
        .map_err(|source| IdentityError::File { path: path.clone(), source })?;
    let command = Command::CreateToken {
        sha256: hash(&secret).into(),
        name: ADMIN.into(),
        user: "admin".into(),
        project: "default".into(),
        roles: vec!["admin".into(), "member".into()],
    };
    let by = Actor { user: "[start]".into(), ..Actor::default() };
    engine
        .submit(command, by)
        .await
        .map_err(|refusal: Refusal| IdentityError::Refused(refusal.to_string()))?;
    Ok(path)
}

/// Whole or not at all, and never readable to others, not even for a moment.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension("new");
    fs::remove_file(&aside).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
