//! TLS as OVS uses it: both sides show certificates, and each believes those that its CA signed, whatever name they bear.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use webpki::EndEntityCert;

/// What the command line or the `SSL` table says.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `--private-key`.
    pub private_key: Option<PathBuf>,
    /// `--certificate`.
    pub certificate: Option<PathBuf>,
    /// `--ca-cert` or `--bootstrap-ca-cert`.
    pub ca_cert: Option<PathBuf>,
    /// `--bootstrap-ca-cert` was given: if the file is missing, it is made of what the first peer shows.
    pub bootstrap: bool,
    /// `--peer-ca-cert`: sent along with our certificate.
    pub peer_ca_cert: Option<PathBuf>,
    /// `--ssl-protocols`.
    pub protocols: Option<String>,
    /// `--ssl-ciphers` (TLS 1.2).
    pub ciphers: Option<String>,
    /// `--ssl-ciphersuites` (TLS 1.3).
    pub ciphersuites: Option<String>,
    /// `--ssl-server-name`.
    pub server_name: Option<String>,
}

/// Why there is no TLS.
#[derive(Error, Debug)]
pub enum TlsError {
    /// An option is missing.
    #[error("{0} must be configured to use SSL/TLS")]
    Missing(&'static str),
    /// A file cannot be read or holds nothing of use.
    #[error("{}: {what}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// What rustls says.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// Keys and certificates, read anew for each connection so that a renewed file counts at once.
#[derive(Clone, Default, Debug)]
pub struct Tls(Arc<Mutex<Settings>>);

fn refuse(error: &TlsError) -> io::Error {
    tracing::error!(target: "stream_ssl", rate = 10, burst = 25, "{error}");
    io::Error::from_raw_os_error(libc::ENOPROTOOPT)
}

fn failed(function: &str, error: &io::Error) -> io::Error {
    let text = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => alert_text(*alert),
        _ => error.to_string(),
    };
    tracing::warn!(target: "stream_ssl", rate = 10, burst = 25, "{function}: {text}");
    io::Error::from_raw_os_error(libc::EPROTO)
}

/// An alert of the peer's in OpenSSL's words: those that SSL 3 had are of "ssl/tls", later ones of TLS.
fn alert_text(alert: AlertDescription) -> String {
    let number = u8::from(alert);
    let words = format!("{alert:?}").chars().fold(String::new(), |mut words, c| {
        if c.is_ascii_uppercase() && !words.is_empty() && !words.ends_with(|c: char| c.is_ascii_uppercase()) {
            words.push(' ');
        }
        words.push(c);
        words
    });
    let age = match number {
        0..=47 => "ssl/tls",
        109.. => "tlsv13",
        _ => "tlsv1",
    };
    let code = 0x0a00_0000 + 1000 + u32::from(number);
    format!("error:{code:08X}:SSL routines::{age} alert {}", words.to_ascii_lowercase())
}

impl Tls {
    /// TLS with these settings.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(settings)))
    }

    /// Takes other settings, for every later connection.
    pub fn set(&self, settings: Settings) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// The settings.
    pub fn settings(&self) -> Settings {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The client's side of a handshake with `host`.
    ///
    /// # Errors
    /// `ENOPROTOOPT` if the settings do not do, `EPROTO` if the handshake fails; both are logged.
    pub async fn connect(&self, tcp: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let settings = self.settings();
        let shown = Shown::default();
        let config = client_config(&settings, &shown).map_err(|e| refuse(&e))?;
        let name = settings.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .or_else(|_| ServerName::try_from("openvswitch".to_owned()))
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        let tls = tls.map_err(|e| failed("SSL_connect", &e))?;
        let shown = std::mem::take(&mut *shown.lock().unwrap_or_else(PoisonError::into_inner));
        if shown.is_empty() {
            return Ok(tls.into());
        }
        // Nothing is believed yet: the next connection is checked against what is kept now.
        bootstrap(&settings, &shown).map_err(|e| refuse(&e))?;
        Err(io::Error::from_raw_os_error(libc::EPROTO))
    }

    /// The server's side of a handshake.
    ///
    /// # Errors
    /// As [`Tls::connect`].
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = server_config(&self.settings()).map_err(|e| refuse(&e))?;
        let tls = TlsAcceptor::from(Arc::new(config)).accept(tcp).await;
        let tls = tls.map_err(|e| failed("SSL_accept", &e))?;
        if let Some(name) = tls.get_ref().1.server_name() {
            tracing::debug!(target: "stream_ssl", "connection indicated server name {name}");
        }
        Ok(tls.into())
    }
}

fn file_error(path: &Path, what: impl ToString) -> TlsError {
    TlsError::File { path: path.to_owned(), what: what.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| file_error(path, e))?.collect();
    let certificates = certificates.map_err(|e| file_error(path, e))?;
    if certificates.is_empty() {
        return Err(file_error(path, "no certificate"));
    }
    Ok(certificates)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(settings: &Settings) -> Result<Identity, TlsError> {
    let key = settings.private_key.as_deref().ok_or(TlsError::Missing("Private key"))?;
    let certificate = settings.certificate.as_deref().ok_or(TlsError::Missing("Certificate"))?;
    let mut chain = certificates(certificate)?;
    if let Some(path) = &settings.peer_ca_cert {
        chain.extend(certificates(path)?);
    }
    if let Some(path) = settings.ca_cert.as_deref().filter(|path| path.exists()) {
        complete(&mut chain, &certificates(path)?);
    }
    Ok((chain, PrivateKeyDer::from_pem_file(key).map_err(|e| file_error(key, e))?))
}

fn roots(settings: &Settings) -> Result<RootCertStore, TlsError> {
    let path = settings.ca_cert.as_deref().ok_or(TlsError::Missing("CA certificate"))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// The versions that the settings leave: a range, as in OVS. Settings that make no sense are told the log and do not
/// count.
fn versions(settings: &Settings) -> Vec<&'static SupportedProtocolVersion> {
    use rustls::version::{TLS12, TLS13};
    const NAMES: [&str; 2] = ["TLSv1.2", "TLSv1.3"];
    let all = vec![&TLS13, &TLS12];
    let Some(text) = settings.protocols.as_deref() else { return all };
    let (words, or_later): (Vec<&str>, bool) = match (text.strip_suffix('+'), text.split_once('-')) {
        (Some(first), _) => (vec![first], true),
        (None, Some((first, last))) => (vec![first, last], false),
        (None, None) => (text.split([' ', ',', '\t']).filter(|word| !word.is_empty()).collect(), false),
    };
    if words.is_empty() {
        tracing::error!(target: "stream_ssl", "SSL/TLS protocol settings invalid");
        return all;
    }
    let mut range = Vec::new();
    for word in &words {
        match NAMES.iter().position(|name| name == word) {
            Some(at) => range.push(at),
            None => {
                tracing::error!(target: "stream_ssl", "{word}: SSL/TLS protocol not recognized");
                return all;
            }
        }
    }
    let first = range.iter().min().copied().unwrap_or(0);
    let last = if or_later { NAMES.len() - 1 } else { range.iter().max().copied().unwrap_or(0) };
    let end = if or_later { "or later".to_owned() } else { format!("- {}", NAMES[last]) };
    tracing::debug!(target: "stream_ssl", "Enabled protocol range: {} {end}", NAMES[first]);
    [&TLS12, &TLS13].into_iter().take(last + 1).skip(first).rev().collect()
}

/// The provider with the cipher suites that the settings leave, in OpenSSL's words: names to add, names after `!` or `-`
/// to take away, and groups (`HIGH`, `!aNULL`, `@SECLEVEL=2`), which change nothing: what rustls has is all of high
/// strength and authenticated. Names that nobody knows are told the log.
fn provider(settings: &Settings) -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    let lists = [
        ("SSL_CTX_set_cipher_list", &settings.ciphers, false),
        ("SSL_CTX_set_ciphersuites", &settings.ciphersuites, true),
    ];
    for (function, list, is_13) in lists {
        let Some(list) = list else { continue };
        let mut keep = Vec::new();
        let known: Vec<_> = provider.cipher_suites.iter().map(|suite| suite.suite()).collect();
        for word in list.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
            let name = word.trim_start_matches(['!', '-', '+']);
            let takes = word.starts_with(['!', '-']);
            match known.iter().find(|suite| suite_is(&format!("{suite:?}"), name)) {
                Some(suite) if takes => keep.retain(|kept| kept != suite),
                Some(suite) => keep.push(*suite),
                None if takes || word.starts_with(['@', '+']) => {}
                None if matches!(word, "HIGH" | "DEFAULT" | "ALL" | "SECURE") => keep.extend(&known),
                None => tracing::warn!(target: "stream_ssl", "{function}: no cipher match ({word})"),
            }
        }
        if keep.is_empty() {
            tracing::error!(target: "stream_ssl", "{function}: error:0A0000B9:SSL routines::no cipher match");
            continue;
        }
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some() != is_13 || keep.contains(&suite.suite()));
    }
    provider
}

/// Whether a cipher suite that rustls calls `suite` is the one that OpenSSL calls `name`.
fn suite_is(suite: &str, name: &str) -> bool {
    let plain = |name: &str| {
        name.replace("TLS13_", "").replace("TLS_", "").replace("WITH_", "").replace(['_', '-'], "")
    };
    let (suite, name) = (plain(suite), plain(name));
    suite == name || suite.trim_end_matches("SHA256").trim_end_matches("SHA384") == name
}

fn client_config(settings: &Settings, shown: &Shown) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(provider(settings));
    let trust = match &settings.ca_cert {
        Some(path) if settings.bootstrap && !path.exists() => Trust::Bootstrap(Arc::clone(shown)),
        _ => {
            let roots = Arc::new(roots(settings)?);
            let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            Trust::Roots(inner.map_err(|e| file_error(Path::new("CA"), e))?)
        }
    };
    let verifier = Arc::new(Verifier { trust, algorithms: provider.signature_verification_algorithms });
    let (chain, key) = identity(settings)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(settings))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)?;
    Ok(config)
}

fn server_config(settings: &Settings) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(provider(settings));
    let (chain, key) = identity(settings)?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(settings)?), Arc::clone(&provider))
            .build();
    let verifier = verifier.map_err(|e| file_error(Path::new("CA"), e))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(settings))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    Ok(config)
}

/// Whom a client believes. Names do not matter, only who signed.
#[derive(Debug)]
enum Trust {
    /// Those that a chain leads to.
    Roots(Arc<WebPkiServerVerifier>),
    /// Anybody: what is said is not listened to, only the chain shown is kept, to find the root in it.
    Bootstrap(Shown),
}

/// The chain that a peer showed, its own certificate first.
type Shown = Arc<Mutex<Vec<CertificateDer<'static>>>>;

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let outcome = match &self.trust {
            Trust::Roots(roots) => {
                roots.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
            }
            Trust::Bootstrap(shown) => {
                let chain = std::iter::once(end_entity).chain(intermediates);
                *shown.lock().unwrap_or_else(PoisonError::into_inner) =
                    chain.map(|certificate| certificate.clone().into_owned()).collect();
                return Ok(ServerCertVerified::assertion());
            }
        };
        match outcome {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether `issuer` could have signed `certificate`, by their names.
fn issued(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let (Ok(certificate), Ok(issuer)) =
        (EndEntityCert::try_from(certificate), EndEntityCert::try_from(issuer))
    else {
        return false;
    };
    certificate.issuer() == issuer.subject()
}

/// Ends a chain with the root that it leads to, if that is among `known`, so that a peer can bootstrap from it.
fn complete(chain: &mut Vec<CertificateDer<'static>>, known: &[CertificateDer<'static>]) {
    for _ in 0..known.len() {
        let Some(last) = chain.last().filter(|last| !issued(last, last)) else { return };
        let Some(issuer) = known.iter().find(|issuer| issued(last, issuer)) else { return };
        chain.push(issuer.clone());
    }
}

/// Why a chain's last certificate cannot be what is believed from now on.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
enum Unfit {
    #[error("no certificate presented by peer")]
    None,
    #[error("obtained certificate is not self-signed")]
    NotSelfSigned,
}

fn root_of<'a>(chain: &'a [CertificateDer<'static>]) -> Result<&'a CertificateDer<'static>, Unfit> {
    let last = chain.last().ok_or(Unfit::None)?;
    if issued(last, last) { Ok(last) } else { Err(Unfit::NotSelfSigned) }
}

/// Keeps the root that a peer showed in the file that `--bootstrap-ca-cert` names.
fn bootstrap(settings: &Settings, chain: &[CertificateDer<'static>]) -> Result<(), TlsError> {
    let path = settings.ca_cert.as_deref().ok_or(TlsError::Missing("CA certificate"))?;
    let root = match root_of(chain) {
        Ok(root) => root,
        Err(why) => {
            tracing::error!(target: "stream_ssl", "could not bootstrap CA cert: {why}");
            if chain.len() == 1 {
                tracing::error!(
                    target: "stream_ssl",
                    "only one certificate was received, so probably the peer is not configured to send its CA \
                     certificate"
                );
            }
            return Ok(());
        }
    };
    let text = format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", base64(root));
    match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes()).map_err(|e| file_error(path, crate::error_text(&e)))?;
            tracing::info!(target: "stream_ssl", "successfully bootstrapped CA cert to {}", path.display());
            tracing::info!(target: "stream_ssl", "killing successful connection to retry using CA cert");
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => tracing::info!(
            target: "stream_ssl", rate = 10, burst = 25,
            "reading CA cert {} created by another process", path.display()
        ),
        Err(e) => tracing::error!(
            target: "stream_ssl",
            "could not bootstrap CA cert: creating {} failed: {}", path.display(), crate::error_text(&e)
        ),
    }
    Ok(())
}

/// Base 64 in lines of 64 characters.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for line in bytes.chunks(48) {
        for group in line.chunks(3) {
            let at = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
            let word = at(0) << 16 | at(1) << 8 | at(2);
            for i in 0..4 {
                let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize];
                text.push(if i <= group.len() { char::from(digit) } else { '=' });
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads() {
        assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==\n");
    }

    /// Of P-256, named `root`, signed by itself.
    const ROOT: &str = "\
-----BEGIN CERTIFICATE-----
MIIBdjCCARugAwIBAgIURAhlb5OosgZ0hR93J5XyCTAqQyQwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEcm9vdDAgFw0yNjExMjIwMDM3MDFaGA8yMTI2MTAyOTAwMzcw
MVowDzENMAsGA1UEAwwEcm9vdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABO4F
scAWeFi9VZWvjMesQ9f1iNURcbWC3iFjGQNKuUTaX90bKcKlpXSKavvdqAKHnRCw
tGEj+fewHzeYB3+KQ8mjUzBRMB0GA1UdDgQWBBRiGiXnpfL9U5vApk0g3qETUfl+
XzAfBgNVHSMEGDAWgBRiGiXnpfL9U5vApk0g3qETUfl+XzAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQCxunu+STkuu94MP370/f64JusUwqBWXKMp
QXQUfPj9LAIhAOae0k1R3ElEZXDkm9Ob7hqi/0Da7QwsgYt3Oxpb3XEF
-----END CERTIFICATE-----
";

    /// Of P-256, named `leaf`, signed by `root`.
    const LEAF: &str = "\
-----BEGIN CERTIFICATE-----
MIIBbzCCARWgAwIBAgIUHQgDXNEvEE7W/Qa0VuXyXfSgfnswCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEcm9vdDAgFw0yNjExMjIwMDM3MDFaGA8yMTI2MTAyOTAwMzcw
MVowDzENMAsGA1UEAwwEbGVhZjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABELg
vChCAJtDW0dj/4LMDuvDXW2pxoPJ0WGBiOvv6RxHtOhq4EVt/2tqKG1xrxDO0ys9
tBfyBIgzPacnmwYybZmjTTBLMAkGA1UdEwQCMAAwHQYDVR0OBBYEFGbyZP2mIrq6
BmtQ1itikSDg4RN5MB8GA1UdIwQYMBaAFGIaJeel8v1Tm8CmTSDeoRNR+X5fMAoG
CCqGSM49BAMCA0gAMEUCIQDjk/YYU/uMZvMer5frqlwXmwJjYMHa5ioIS1tTebhk
WAIgGr310BukTNDAF1SzvB5DOdqTZXfoagHK963gOdkOKHA=
-----END CERTIFICATE-----
";

    fn certificate(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn a_chain_is_ended_by_its_root_and_bootstraps_from_it() {
        let (root, leaf) = (certificate(ROOT), certificate(LEAF));
        let mut chain = vec![leaf.clone()];
        assert_eq!(root_of(&chain), Err(Unfit::NotSelfSigned));
        complete(&mut chain, std::slice::from_ref(&leaf));
        assert_eq!(chain, std::slice::from_ref(&leaf));
        complete(&mut chain, &[leaf.clone(), root.clone()]);
        assert_eq!(chain, [leaf.clone(), root.clone()]);
        assert_eq!(root_of(&chain), Ok(&root));
        complete(&mut chain, &[leaf.clone(), root.clone()]);
        assert_eq!(chain, [leaf, root]);
        assert_eq!(root_of(&[]), Err(Unfit::None));
    }

    #[test]
    fn a_file_that_another_process_made_is_left_alone() {
        let path = std::env::temp_dir().join(format!("turnout-bootstrap-{}", std::process::id()));
        let settings = Settings { ca_cert: Some(path.clone()), ..Settings::default() };
        bootstrap(&settings, &[certificate(ROOT)]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), ROOT);
        std::fs::write(&path, "theirs").unwrap();
        bootstrap(&settings, &[certificate(ROOT)]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "theirs");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn words_of_the_options_are_openssls() {
        let count = |ciphers: &str, suites: &str| {
            let settings = Settings {
                ciphers: Some(ciphers.to_owned()),
                ciphersuites: Some(suites.to_owned()),
                ..Settings::default()
            };
            let provider = provider(&settings);
            let old = provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none()).count();
            (old, provider.cipher_suites.len() - old)
        };
        assert_eq!(count("HIGH:!aNULL:!MD5", "DEFAULT"), (6, 3));
        assert_eq!(count("DEFAULT:@SECLEVEL=2:!ECDHE-ECDSA-AES256-GCM-SHA384", "ALL"), (5, 3));
        assert_eq!(count("ECDHE-RSA-AES128-GCM-SHA256", "TLS_CHACHA20_POLY1305_SHA256"), (1, 1));
        assert_eq!(count("RC4-MD5", ""), (6, 3));
    }

    #[test]
    fn protocols_are_a_range() {
        let range = |text: &str| {
            let settings = Settings { protocols: Some(text.to_owned()), ..Settings::default() };
            let names = versions(&settings).into_iter().map(|version| format!("{:?}", version.version));
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(range("TLSv1.2,TLSv1.3"), "TLSv1_3 TLSv1_2");
        assert_eq!(range("TLSv1.3-TLSv1.2"), "TLSv1_3 TLSv1_2");
        assert_eq!(range("TLSv1.2+"), "TLSv1_3 TLSv1_2");
        assert_eq!(range("TLSv1.3+"), "TLSv1_3");
        assert_eq!(range("TLSv1.2"), "TLSv1_2");
        assert_eq!(range("SSLv3"), "TLSv1_3 TLSv1_2");
        assert_eq!(range("TLSv1.2-TLSv1.3,TLSv1.3+"), "TLSv1_3 TLSv1_2");
    }

    #[test]
    fn alerts_are_told_as_openssl_does() {
        let text = |alert| alert_text(alert);
        assert_eq!(
            text(AlertDescription::HandshakeFailure),
            "error:0A000410:SSL routines::ssl/tls alert handshake failure"
        );
        assert_eq!(text(AlertDescription::UnknownCA), "error:0A000418:SSL routines::tlsv1 alert unknown ca");
        assert_eq!(
            text(AlertDescription::CertificateRequired),
            "error:0A00045C:SSL routines::tlsv13 alert certificate required"
        );
    }
}
