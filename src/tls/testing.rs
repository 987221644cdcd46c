//! Certificates for tests, by the program `openssl`.

use std::{fs, path::Path, process::Command};

const CURVE: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// What `openssl ca` wants to be told.
const CONFIG: &str = "[ca]\ndefault_ca = it\n[it]\ndatabase = index\nrand_serial = yes\nunique_subject = no\n\
                      default_md = sha256\npolicy = it_wants\ncrlnumber = number\ncrl_extensions = of_list\n\
                      [it_wants]\ncommonName = supplied\n[of_list]\nauthorityKeyIdentifier = keyid\n";

/// Runs `openssl` in a folder.
fn openssl(folder: &Path, args: &str) {
    let mut command = Command::new("openssl");
    let output = command.args(args.split(' ')).current_dir(folder).output().expect("openssl runs");
    assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, as `NAME.pem` and `NAME.key`.
pub fn authority(folder: &Path, name: &str) {
    let files = format!("-keyout {name}.key -out {name}.pem");
    openssl(folder, &format!("req -x509 {CURVE} -subj /CN={name} -days 2 {files}"));
}

/// A certificate of it for `DNS:localhost` or the like, in the same way.
pub fn certificate(folder: &Path, authority: &str, name: &str, for_names: &str) {
    signed(folder, authority, name, for_names, "-days 2");
}

/// One that ended long ago.
pub fn expired(folder: &Path, authority: &str, name: &str, for_names: &str) {
    signed(folder, authority, name, for_names, "-startdate 20200101000000Z -enddate 20200102000000Z");
}

/// The list `NAME.crl` of an authority's certificates that are revoked, in PEM; `time` is `-crldays 2` or the like.
pub fn revocations(folder: &Path, authority: &str, name: &str, revoked: &[&str], time: &str) {
    for (file, text) in [("config", CONFIG), ("index", ""), ("number", "01\n")] {
        fs::write(folder.join(file), text).expect("a file");
    }
    let by = format!("ca -config config -cert {authority}.pem -keyfile {authority}.key");
    for name in revoked {
        openssl(folder, &format!("{by} -revoke {name}.pem"));
    }
    openssl(folder, &format!("{by} -gencrl {time} -out {name}.crl"));
}

/// The same file of a list in DER, as `NAME.der`.
pub fn list_in_der(folder: &Path, name: &str) {
    openssl(folder, &format!("crl -in {name}.crl -outform DER -out {name}.der"));
}

fn signed(folder: &Path, authority: &str, name: &str, for_names: &str, time: &str) {
    for (file, text) in
        [("ext", &*format!("subjectAltName = {for_names}\n")), ("config", CONFIG), ("index", "")]
    {
        fs::write(folder.join(file), text).expect("a file");
    }
    openssl(folder, &format!("req {CURVE} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
    let by = format!("-config config -cert {authority}.pem -keyfile {authority}.key -outdir . -extfile ext");
    openssl(folder, &format!("ca -batch -notext {by} {time} -in {name}.csr -out {name}.pem"));
}
