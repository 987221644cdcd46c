//! Renews a user's grid credential by the program `myproxy-logon`.
//!
//! What comes is kept in the state folder, below `credentials`, for the service's own user alone: a new
//! one replaces the old one whole, or not at all. A credential that is there already is shown to the
//! server as the right to renew it; else the service's own certificate has to be enough, as the
//! environment names it (`X509_USER_CERT`, `X509_USER_KEY`, `X509_CERT_DIR`).
//! Source: cloud-scheduler 1.x, `proxy_refreshers.py`; myproxy-logon(1).

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pileus_model::{MyProxy, Proxy, Time};
use sha2::{Digest, Sha256};
use tokio::process::Command;

/// How long the program may take.
const PATIENCE: Duration = Duration::from_secs(45);

/// The part of what the program says that people are shown, in bytes.
const SAID_MAX: usize = 500;

/// Renews; answers with the time until which the new one holds. `Err`: for people, why not.
pub async fn renew(
    program: &Path,
    state: &Path,
    user: &str,
    proxy: Proxy,
    from: &MyProxy,
) -> Result<Time, String> {
    let folder = state.join("credentials");
    let unusable = |error: io::Error| format!("{} cannot be used: {error}", folder.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(unusable)?;
    let kept = folder.join(file_name(user, proxy));
    // One for each attempt: two at a time do not write into one file.
    let fresh = New(folder.join(format!("new-{}.pem", uuid::Uuid::new_v4())));
    let mut command = Command::new(program);
    command.args(["-s", &from.server, "-p", &from.port.to_string(), "-l", &from.account]);
    command.args(["-t", &from.lifetime_h.to_string(), "-n", "-o"]).arg(&fresh.0);
    if let Some(name) = &from.credential {
        command.args(["-k", name]);
    }
    if kept.exists() {
        command.arg("-a").arg(&kept);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let at = format!("{}:{}", from.server, from.port);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = match ended {
        Err(_) => return Err(format!("The MyProxy server {at} did not answer within {PATIENCE:?}.")),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            let program = program.display();
            return Err(format!("The program {program} is not installed (Debian package `myproxy`)."));
        }
        Ok(Err(error)) => return Err(format!("{} cannot be run: {error}", program.display())),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        let said = [output.stderr, output.stdout].concat();
        return Err(format!("The MyProxy server {at} gave no credential: {}", said_by(&said)));
    }
    let text = fs::read(&fresh.0).map_err(|error| format!("myproxy-logon left no credential: {error}"))?;
    let expires = expiry(&text).ok_or("What myproxy-logon left is no credential.")?;
    fs::set_permissions(&fresh.0, fs::Permissions::from_mode(0o600)).map_err(unusable)?;
    fs::rename(&fresh.0, &kept).map_err(unusable)?;
    Ok(expires)
}

/// A file that goes unless it became something.
struct New(PathBuf);

impl Drop for New {
    fn drop(&mut self) {
        // Renamed: there is nothing to take away.
        fs::remove_file(&self.0).ok();
    }
}

/// A user may have any name; a file may not.
fn file_name(user: &str, proxy: Proxy) -> String {
    let hash: String = Sha256::digest(user).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hash}-{}.pem", proxy.as_str())
}

/// In one line, cut where it is long.
fn said_by(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SAID_MAX)]).into_owned();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "it did not say why".to_owned() } else { text }
}

/// Until when all certificates of a PEM file hold; `None` where there is none that can be read.
fn expiry(pem: &[u8]) -> Option<Time> {
    let text = String::from_utf8_lossy(pem);
    let parts = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let ends = parts.map(|part| {
        let body: String = part.split("-----END").next()?.split_whitespace().collect();
        not_after(&STANDARD.decode(body).ok()?)
    });
    ends.collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// `notAfter` of a certificate in DER. Source: RFC 5280 §4.1.
fn not_after(der: &[u8]) -> Option<Time> {
    const SEQUENCE: u8 = 0x30;
    let (_, certificate, _) = value(der).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut fields, _) = value(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    // The version stands in front, or is left out; then serial number, algorithm, issuer.
    if let Some((0xa0, _, rest)) = value(fields) {
        fields = rest;
    }
    for _ in 0..3 {
        fields = value(fields)?.2;
    }
    let (_, validity, _) = value(fields).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (tag, text, _) = value(value(validity)?.2)?;
    let text = std::str::from_utf8(text).ok()?;
    // UTCTime has two digits of a year, up to 2049; GeneralizedTime four.
    let text = match (tag, text.get(..2)?.parse::<u8>().ok()?) {
        (0x17, ..50) => format!("20{text}"),
        (0x17, _) => format!("19{text}"),
        (0x18, _) => text.to_owned(),
        _ => return None,
    };
    let at = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Time(at.timestamp().as_millisecond()))
}

/// The first value: its tag, its content, and what follows it.
fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        ..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}
