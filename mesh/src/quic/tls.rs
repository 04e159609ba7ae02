//! TLS 1.3 with the environment's own authority on both sides.
//!
//! A certificate is believed if the environment's authority signed it, whatever a clock says; who it names is compared after the handshake, where
//! both sides can be told in words what is wrong. Sessions are never resumed, so there is no early data that somebody could replay.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{
    HandshakeData, NoInitialCipherSuite, QuicClientConfig, QuicServerConfig,
};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme, version};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::NodeName;
use crate::ca::{Credentials, SelfSigned};

/// What both sides say they speak. The version of the protocol is in the hello, where a mismatch can be explained.
const ALPN: &[u8] = b"clusterd-mesh";

/// What nodes speak that have no certificate of the environment yet.
const JOIN_ALPN: &[u8] = b"clusterd-join";

/// Certificates are verified as of this moment (September 2020): they do not expire, and a wrong clock must not part nodes.
const VERIFIED_AT: Duration = Duration::from_secs(1_600_000_000);

/// Why TLS cannot be set up, or a certificate is not believed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate or key of this node cannot be used: {0}")]
    Config(#[from] rustls::Error),
    #[error("a certificate is not signed by the environment's authority: {0}")]
    Certificate(#[from] webpki::Error),
    #[error("a certificate names no node of an environment")]
    NoName,
    #[error("the cryptography lacks what QUIC needs")]
    Cryptography(#[from] NoInitialCipherSuite),
}

/// Whom `certificate` names, if `authority` signed it (both DER).
pub(crate) fn verified_name(certificate: &[u8], authority: &[u8]) -> Result<NodeName, TlsError> {
    let verifier = PeerVerifier::new(&CertificateDer::from(authority), &provider())?;
    let certificate = CertificateDer::from(certificate);
    verifier.verify_chain(&certificate, KeyUsage::client_auth())?;
    name_of(&certificate)
}

/// Whom a certificate names that was verified before.
pub(super) fn name_of(certificate: &CertificateDer<'_>) -> Result<NodeName, TlsError> {
    let certificate = EndEntityCert::try_from(certificate)?;
    let mut names = certificate.valid_uri_names();
    let name = names.next().and_then(NodeName::from_uri);
    match (name, names.next()) {
        (Some(name), None) => Ok(name),
        _ => Err(TlsError::NoName),
    }
}

pub(super) fn server_config(credentials: &Credentials) -> Result<QuicServerConfig, TlsError> {
    let provider = provider();
    let verifier = PeerVerifier::new(&credentials.authority, &provider)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(
            vec![credentials.certificate.clone()],
            credentials.key.clone_key(),
        )?;
    config.alpn_protocols = vec![ALPN.to_vec(), JOIN_ALPN.to_vec()];
    serve_once(config)
}

/// For a node without a certificate of the environment: only others that want to join are heard.
pub(crate) fn join_server_config(shown: SelfSigned) -> Result<QuicServerConfig, TlsError> {
    let SelfSigned { certificate, key } = shown;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![JOIN_ALPN.to_vec()];
    serve_once(config)
}

/// Nothing is resumed.
fn serve_once(mut config: rustls::ServerConfig) -> Result<QuicServerConfig, TlsError> {
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(QuicServerConfig::try_from(config)?)
}

/// For asking at another node's door: any certificate is taken, as the secret is what counts there.
pub(crate) fn join_client_config() -> Result<QuicClientConfig, TlsError> {
    let provider = provider();
    let anybody = Anybody {
        algorithms: provider.signature_verification_algorithms,
    };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![JOIN_ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(QuicClientConfig::try_from(config)?)
}

/// Whether the other side came to join: it may be anybody.
pub(super) fn wants_to_join(connection: &quinn::Connection) -> bool {
    let data = connection.handshake_data();
    let data = data.and_then(|data| data.downcast::<HandshakeData>().ok());
    data.is_some_and(|data| data.protocol.as_deref() == Some(JOIN_ALPN))
}

pub(super) fn client_config(credentials: &Credentials) -> Result<QuicClientConfig, TlsError> {
    let provider = provider();
    let verifier = PeerVerifier::new(&credentials.authority, &provider)?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(
            vec![credentials.certificate.clone()],
            credentials.key.clone_key(),
        )?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(QuicClientConfig::try_from(config)?)
}

/// Believes what the authority of `credentials` has signed.
#[cfg(test)]
pub(super) fn any_of(credentials: &Credentials) -> Arc<dyn ServerCertVerifier> {
    let verifier = PeerVerifier::new(&credentials.authority, &provider());
    Arc::new(verifier.expect("an authority"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Believes what the environment's authority has signed.
#[derive(Debug)]
struct PeerVerifier {
    authority: TrustAnchor<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    fn new(
        authority: &CertificateDer<'_>,
        provider: &CryptoProvider,
    ) -> Result<PeerVerifier, TlsError> {
        Ok(PeerVerifier {
            authority: anchor_from_trusted_cert(authority)?.to_owned(),
            algorithms: provider.signature_verification_algorithms,
        })
    }

    fn verify_chain(
        &self,
        certificate: &CertificateDer<'_>,
        usage: KeyUsage,
    ) -> Result<(), webpki::Error> {
        let end = EndEntityCert::try_from(certificate)?;
        let anchors = std::slice::from_ref(&self.authority);
        let time = UnixTime::since_unix_epoch(VERIFIED_AT);
        let algorithms = self.algorithms.all;
        end.verify_for_usage(algorithms, anchors, &[], time, usage, None, None)?;
        Ok(())
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }
}

/// TLS has an alert for an unknown authority, and the peer should see that one.
fn unbelieved(error: webpki::Error) -> rustls::Error {
    use rustls::CertificateError::{Other, UnknownIssuer};
    match error {
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            UnknownIssuer.into()
        }
        other => Other(rustls::OtherError(Arc::new(other))).into(),
    }
}

fn only_tls13() -> rustls::Error {
    rustls::Error::General("TLS 1.2 is not spoken here".to_owned())
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify_chain(end_entity, KeyUsage::server_auth())
            .map_err(unbelieved)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    /// Those who come to join have none. On the mesh's own ALPN whoever shows none is refused before its hello is read.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify_chain(end_entity, KeyUsage::client_auth())
            .map_err(unbelieved)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Believes that the other side has the key of the certificate that it shows, and nothing else.
#[derive(Debug)]
struct Anybody {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Anybody {
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
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
