//! Certificates: whatever a peer or a file holds is read or refused.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use tandem::identity::{Identity, PartyRole};
use tandem::net::{Credentials, PeerCertificate};
use tandem_certs::{Validity, issue_leaf, make_ca};

use crate::allocation::within;

/// The longest subject or URI that is kept of a peer's certificate, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// A certificate in DER; text that looks like PEM also as the files of a party.
pub fn read(data: &[u8]) {
    let bytes_max = 256 * data.len() + 65_536;
    if let Some(certificate) = within(bytes_max, || PeerCertificate::parse(data)) {
        assert!(certificate.subject.chars().count() <= TEXT_CHARS_MAX);
        assert!(certificate.uris.iter().all(|it| it.chars().count() <= TEXT_CHARS_MAX));
        let told = certificate.to_string();
        assert!(told.chars().all(|it| !it.is_control()), "unescaped: {told:?}");
        if let Some(identity) = certificate.identity() {
            round_trip(&identity);
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(identity) = text.parse() {
        round_trip(&identity);
    }
    if text.contains("-----BEGIN") {
        as_files(data);
    }
}

/// An identity has one spelling.
fn round_trip(identity: &Identity) {
    assert_eq!(identity.to_string().parse().as_ref(), Ok(identity));
}

/// The same bytes as authority, certificate and key.
fn as_files(data: &[u8]) {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        std::env::temp_dir().join(format!("tandem-fuzz-{}.pem", std::process::id()))
    });
    std::fs::write(file, data).expect("the temporary folder is writable");
    match Credentials::load(file, file, file) {
        Ok(credentials) => round_trip(credentials.identity()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A CA and a leaf of each role, as files have them and as peers send them.
pub fn samples() -> Vec<(String, Vec<u8>)> {
    let validity = Validity::from_now(Duration::from_secs(86_400)).expect("a day is fine");
    let authority = make_ca("c", validity).expect("a CA for a good name");
    let mut all = vec![("ca".to_owned(), authority.pem().clone())];
    for (role, id) in [
        (PartyRole::Meta, "1"),
        (PartyRole::Server, "1"),
        (PartyRole::Client, "app"),
        (PartyRole::Admin, "ops"),
    ] {
        let identity = Identity::new("c", role, id).expect("a good name");
        let leaf = issue_leaf(&authority, &identity, validity).expect("a leaf");
        all.push((identity.file_stem(), leaf));
    }
    all.into_iter()
        .flat_map(|(name, pem)| {
            let der = der(&pem.certificate);
            let both = pem.certificate + &pem.key;
            [(format!("{name}.der"), der), (format!("{name}.pem"), both.into_bytes())]
        })
        .chain([("identity".to_owned(), b"tandem://c/server/1".to_vec())])
        .collect()
}

/// What is in a PEM of one object.
fn der(pem: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let body = pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let digits: Vec<u32> = body
        .bytes()
        .filter_map(|byte| DIGITS.iter().position(|&it| it == byte))
        .map(|digit| digit as u32)
        .collect();
    let chunk = |digits: &[u32]| {
        let word = (0..4).fold(0, |word, at| word << 6 | digits.get(at).unwrap_or(&0));
        word.to_be_bytes()[1..digits.len()].to_vec()
    };
    digits.chunks(4).flat_map(chunk).collect()
}
