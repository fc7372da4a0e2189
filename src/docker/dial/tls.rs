//! TLS with the certificates of a folder, as the docker command keeps them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::failure::DialError;
use crate::docker::error::{DockerError, TlsProblem};
use crate::docker::host::Certificates;

/// Longest file of certificates that is read, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// What makes connections with TLS.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) connector: TlsConnector,
    /// Whether the engine has asked for a certificate that we do not have.
    pub(super) asked: Arc<Nameless>,
}

/// A client without a certificate, who remembers that one was asked for. An engine that wants one
/// just hangs up, and its reason may be lost with the connection.
#[derive(Debug, Default)]
pub(super) struct Nameless(AtomicBool);

impl Nameless {
    pub(super) fn was_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Nameless {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// What makes connections with these certificates.
///
/// Errors: [`DockerError::Certificate`], naming the file.
pub(super) fn prepare(certificates: &Certificates) -> Result<Tls, DockerError> {
    let folder = &certificates.folder;
    if certificates.verify && !folder.is_dir() {
        return Err(damaged(folder, "there is no such folder; certificates are looked for in it"));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| damaged(folder, &e.to_string()))?;
    let builder = match certificates.verify {
        true => builder.with_root_certificates(authorities(folder)?),
        false => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
    };
    let asked = Arc::<Nameless>::default();
    let config = match identity(folder)? {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| damaged(&folder.join("cert.pem"), &e.to_string()))?,
        None => builder.with_client_cert_resolver(asked.clone()),
    };
    Ok(Tls { connector: TlsConnector::from(Arc::new(config)), asked })
}

/// The name that the engine's certificate has to be for.
pub(super) fn server_name(address: &str) -> Result<ServerName<'static>, DialError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|error| DialError::Tls {
        problem: TlsProblem::OtherName,
        detail: error.to_string(),
    })
}

/// Those of `ca.pem`, and those that this machine trusts.
fn authorities(folder: &Path) -> Result<RootCertStore, DockerError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let _ = roots.add_parsable_certificates(system.certs);
    let path = folder.join("ca.pem");
    for certificate in chain(&path)?.unwrap_or_default() {
        roots.add(certificate).map_err(|e| damaged(&path, &e.to_string()))?;
    }
    Ok(roots)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// As whom the client comes; none if nothing is there for it.
fn identity(folder: &Path) -> Result<Option<Identity>, DockerError> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    match (chain(&cert)?, read(&key)?) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(damaged(&key, "it is missing, and `cert.pem` beside it needs it")),
        (None, Some(_)) => Err(damaged(&cert, "it is missing, and `key.pem` beside it needs it")),
        (Some(chain), Some(text)) => {
            let key = PrivateKeyDer::from_pem_slice(&text)
                .map_err(|_| damaged(&key, "it holds no private key that can be used"))?;
            Ok(Some((chain, key)))
        }
    }
}

/// The certificates in a file; none if there is no such file.
fn chain(path: &Path) -> Result<Option<Vec<CertificateDer<'static>>>, DockerError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(Some(all)),
        Ok(_) => Err(damaged(path, "it holds no certificate")),
        Err(error) => Err(damaged(path, &error.to_string())),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, DockerError> {
    use std::io::Read as _;

    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(len) if len as u64 > FILE_LEN_MAX => {
            Err(damaged(path, &format!("longer than {FILE_LEN_MAX} bytes")))
        }
        Ok(_) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(damaged(path, &e.to_string())),
    }
}

fn damaged(path: &Path, reason: &str) -> DockerError {
    DockerError::Certificate { path: path.to_owned(), reason: reason.to_owned() }
}

/// Takes anybody for the engine, because a docker context says `SkipTLSVerify`. Signatures count
/// all the same.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
