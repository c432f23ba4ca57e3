//! rustls, set up for mail between servers: our own certificate where we are asked for one, and nobody's checked where we
//! deliver. A webhook's is checked: what goes there is for operators alone. ring is named as the provider everywhere; no process-wide default is needed.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use crate::config;

/// Reads certificate and key for STARTTLS. The error names the file.
pub fn server_tls(files: &config::TlsFiles) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
        let what = "no private key in PEM without a passphrase (a line -----BEGIN PRIVATE KEY----- or similar)";
        pem_error(&files.key, error, what)
    })?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("{}: does not belong to the certificate in {}", files.key.display(), files.certificate.display())
            }
            error => format!("{} with {}: {error}", files.certificate.display(), files.key.display()),
        })?;
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let nothing = "no certificate in PEM (a line -----BEGIN CERTIFICATE-----)";
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|error| pem_error(file, error, nothing))?;
    if chain.is_empty() { Err(pem_error(file, PemError::NoItemsFound, nothing)) } else { Ok(chain) }
}

/// `nothing`: what it means when the file holds nothing of the kind. Never shows a line of the file, which may be a key.
fn pem_error(file: &Path, error: PemError, nothing: &str) -> String {
    let why = match error {
        PemError::Io(error) => error.to_string(),
        PemError::NoItemsFound => nothing.to_owned(),
        PemError::Base64Decode(_) => "a PEM section is damaged (not base 64)".to_owned(),
        PemError::MissingSectionEnd { .. } => "a PEM section has no END line".to_owned(),
        _ => "it is not PEM".to_owned(),
    };
    format!("{}: {why}", file.display())
}

/// For connections to servers whose certificate is not checked.
pub(super) fn any_server() -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    // Tickets are kept by name, and here one name can stand for many hosts. Connections are reused instead.
    config.resumption = Resumption::disabled();
    config
}

/// For connections to servers that somebody in `roots` must vouch for.
pub(super) fn known_servers(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Whom this machine trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others. Blocks.
pub(super) fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Stores hold some that rustls cannot read; the others will do.
    roots.add_parsable_certificates(found.certs);
    match (roots.is_empty(), found.errors.first()) {
        (false, _) => Ok(roots),
        (true, Some(error)) => Err(format!("no certificate authority can be read: {error}")),
        (true, None) => Err("this machine has no certificate authorities (Debian: install ca-certificates)".to_owned()),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Takes every certificate. Opportunistic TLS keeps listeners out; whoever can put himself in between could as well take
/// STARTTLS out of the EHLO reply (RFC 3207 §6). Signatures prove nothing without a known certificate and are not
/// checked either: certificates that rustls cannot read (X.509 v1, as old appliances make them) work too.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// SHA-1 too: old servers know nothing else in TLS 1.2, and would be left with clear text.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = ring::default_provider().signature_verification_algorithms.supported_schemes();
        schemes.extend([SignatureScheme::RSA_PKCS1_SHA1, SignatureScheme::ECDSA_SHA1_Legacy]);
        schemes
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    /// A new certificate for `name` with its key, in files.
    pub fn files(directory: &Path, name: &str) -> config::TlsFiles {
        let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let files =
            config::TlsFiles { certificate: directory.join(format!("{name}.crt")), key: directory.join(format!("{name}.key")) };
        fs::write(&files.certificate, certified.cert.pem()).unwrap();
        fs::write(&files.key, certified.signing_key.serialize_pem()).unwrap();
        files
    }

    #[track_caller]
    fn refused(files: &config::TlsFiles, words: &[&str]) {
        let error = server_tls(files).expect_err("must be refused");
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }

    #[test]
    fn certificate_and_key_make_a_server() {
        let directory = tempfile::tempdir().unwrap();
        assert!(server_tls(&files(directory.path(), "mx1.isp.example")).is_ok());
    }

    #[test]
    fn broken_files_are_named_with_what_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let good = files(directory.path(), "mx1.isp.example");
        let other = files(directory.path(), "mx2.isp.example");
        let empty = directory.path().join("empty.pem");
        fs::write(&empty, "").unwrap();
        let damaged = directory.path().join("damaged.pem");
        fs::write(&damaged, "-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n").unwrap();
        let with = |certificate: &Path, key: &Path| config::TlsFiles { certificate: certificate.into(), key: key.into() };

        refused(&with(&directory.path().join("none.crt"), &good.key), &["none.crt: ", "No such file"]);
        refused(&with(&empty, &good.key), &["empty.pem: no certificate"]);
        refused(&with(&good.key, &good.key), &["mx1.isp.example.key: no certificate"]);
        refused(&with(&good.certificate, &empty), &["empty.pem: no private key"]);
        refused(&with(&good.certificate, &damaged), &["damaged.pem: ", "damaged"]);
        refused(&with(&good.certificate, &other.key), &["mx2.isp.example.key: does not belong", "mx1.isp.example.crt"]);
    }
}
