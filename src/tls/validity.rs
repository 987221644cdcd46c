//! Validity and purpose of certificates, for warnings. rustls decides what is accepted.

use std::time::Duration;

use jiff::Timestamp;
use pileus_model::Time;
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_cert::{Version, crl::CertificateList, der::Decode, ext::pkix::BasicConstraints};

/// Certificate, as far as warnings need it.
pub(crate) struct Certificate {
    /// Its name, `CN=api`.
    pub subject: String,
    /// `true` if it may sign others. Certificates of version 1 do not say it.
    pub is_authority: bool,
    begin: Duration,
    end: Duration,
}

impl Certificate {
    /// `None` if it cannot be read.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let certificate = x509_cert::Certificate::from_der(der).ok()?;
        let it = certificate.tbs_certificate();
        let constraints = it.get_extension::<BasicConstraints>().ok()?;
        Some(Self {
            subject: it.subject().to_string(),
            is_authority: it.version() != Version::V3 || constraints.is_some_and(|(_, it)| it.ca),
            begin: it.validity().not_before.to_unix_duration(),
            end: it.validity().not_after.to_unix_duration(),
        })
    }

    /// Reason why it is not valid at this time; `None` if it is.
    pub fn problem(&self, now: Time) -> Option<String> {
        let subject = &self.subject;
        if is_past(self.end, now) {
            return Some(format!("{subject} expired at {}", shown(self.end)));
        }
        (!is_past(self.begin, now)).then(|| format!("{subject} is not valid before {}", shown(self.begin)))
    }
}

/// Reason why a list of revoked certificates is not valid at this time; `None` if it is, or cannot be read.
pub(crate) fn list_problem(der: &CertificateRevocationListDer<'_>, now: Time) -> Option<String> {
    let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der).ok()?;
    let end = list.tbs_cert_list.next_update?.to_unix_duration();
    is_past(end, now).then(|| format!("the list of {} expired at {}", list.tbs_cert_list.issuer, shown(end)))
}

fn is_past(time: Duration, now: Time) -> bool {
    Time(0).after(time) < now
}

fn shown(time: Duration) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}
