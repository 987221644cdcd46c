//! The embedded identity: tokens are random, known to Pileus by their SHA-256 alone.
//!
//! The first start makes the administrator's token and keeps it in `DIR/admin-token` (mode 0600,
//! the token and a newline), the one place where a secret of Pileus lies in clear.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD};
use pileus_model::{Actor, Command, Engine, Refusal, Time};
use sha2::{Digest, Sha256};
use tracing::warn;

/// Name and user of the administrator's token, which the first start of a state folder makes.
pub const ADMIN: &str = "admin";

/// Actor of what `pileus token` changes in a state folder.
pub const TOKEN_COMMAND: &str = "[token command]";

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

/// Ensures that the administrator has a token. Returns the file that holds it.
///
/// The file is written before the token is made known: a crash between the two leaves a file whose
/// token nobody accepts, and the next start writes a new one.
pub async fn ensure_admin(engine: &dyn Engine, state: &Path, now: Time) -> Result<PathBuf, IdentityError> {
    let path = state.join("admin-token");
    if let Some(token) = engine.view().tokens.values().find(|token| &*token.name == ADMIN) {
        // It may have been put in a safer place. No second one is made, which nobody asked for.
        if fs::metadata(&path).map_or(0, |file| file.len()) == 0 {
            warn!(
                path = %path.display(),
                "administrator's token is known and its file is gone, `pileus token create --admin` makes another one while no server runs"
            );
        }
        if !token.is_valid_at(now) {
            warn!(
                "administrator's token expired, `pileus token create --admin` makes another one while no server runs"
            );
        }
        return Ok(path);
    }
    let secret = new_secret()?;
    let aside = write_private(&path, &secret)?;
    put_in_place(&aside, &path)?;
    make_admin(engine, &secret, "[start]", None).await?;
    Ok(path)
}

/// Replaces the administrator's token. Returns the file that holds the new one.
///
/// The file takes its place after the engine has the token: a refusal leaves the old file and the old token.
pub async fn replace_admin(
    engine: &dyn Engine,
    state: &Path,
    expires: Option<Time>,
) -> Result<PathBuf, IdentityError> {
    let path = state.join("admin-token");
    let secret = new_secret()?;
    let aside = write_private(&path, &secret)?;
    make_admin(engine, &secret, TOKEN_COMMAND, expires).await?;
    put_in_place(&aside, &path)?;
    Ok(path)
}

async fn make_admin(
    engine: &dyn Engine,
    secret: &str,
    by: &str,
    expires: Option<Time>,
) -> Result<(), IdentityError> {
    let command = Command::CreateToken {
        sha256: hash(secret).into(),
        name: ADMIN.into(),
        user: ADMIN.into(),
        project: "default".into(),
        roles: vec!["admin".into(), "member".into()],
        expires,
        replaces: true,
    };
    let by = Actor { user: by.into(), ..Actor::default() };
    let made = engine.submit(command, by).await;
    made.map(drop).map_err(|refusal: Refusal| IdentityError::Refused(refusal.to_string()))
}

/// Writes a secret beside `path`, in a file that is never readable to others, not even for a moment. The file
/// belongs to the owner of its folder: root may work on the folder of a service.
fn write_private(path: &Path, secret: &str) -> Result<PathBuf, IdentityError> {
    let aside = path.with_extension("new");
    let written = || -> io::Result<()> {
        fs::remove_file(&aside).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        if let Some(folder) = path.parent().map(fs::metadata).transpose()? {
            let made = file.metadata()?;
            if (made.uid(), made.gid()) != (folder.uid(), folder.gid()) && nix::unistd::geteuid().is_root() {
                fchown(&file, Some(folder.uid()), Some(folder.gid()))?;
            }
        }
        file.write_all(format!("{secret}\n").as_bytes())?;
        file.sync_all()
    };
    written()
        .map(|()| aside.clone())
        .map_err(|source| IdentityError::File { path: path.to_path_buf(), source })
}

fn put_in_place(aside: &Path, path: &Path) -> Result<(), IdentityError> {
    fs::rename(aside, path).map_err(|source| IdentityError::File { path: path.to_path_buf(), source })
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
