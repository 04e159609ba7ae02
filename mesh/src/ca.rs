//! The environment's own certificate authority, and what a node shows of it.
//!
//! Whoever founds the environment makes an [`Authority`]; each node makes a [`NodeKey`], whose public half the authority's holder turns into a
//! certificate. Private keys of nodes never travel. Certificates do not expire: a node leaves by being removed, and no clock decides who may speak.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SignatureAlgorithm,
};
use ring::agreement::{self, ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey};
use ring::rand::SystemRandom;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use webpki::EndEntityCert;

use crate::{EnvironmentId, NodeName};

/// An uncompressed point of P-256.
const PUBLIC_KEY_BYTES: usize = 65;

/// Why a key or certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("cannot make or read a key or certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot read a certificate or key in PEM form")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error(transparent)]
    Tls(#[from] crate::TlsError),
    #[error("a node's public key is a P-256 point of {PUBLIC_KEY_BYTES} bytes, this is none")]
    PublicKey,
}

/// Signs the certificates of an environment's nodes.
pub struct Authority {
    environment: EnvironmentId,
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// A new authority with a new key.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn create(environment: EnvironmentId) -> Result<Authority, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = authority_params(environment).self_signed(&key)?;
        Ok(Authority {
            environment,
            certificate: certificate.der().clone(),
            key,
        })
    }

    /// The authority that [`Authority::key_pem`] and [`Authority::certificate`] were taken from.
    ///
    /// # Errors
    /// If the key cannot be read.
    pub fn restore(
        environment: EnvironmentId,
        key_pem: &str,
        certificate: &[u8],
    ) -> Result<Authority, CaError> {
        Ok(Authority {
            environment,
            key: KeyPair::from_pem(key_pem)?,
            certificate: CertificateDer::from(certificate.to_vec()),
        })
    }

    /// The private key: whoever has it can make nodes.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The certificate that nodes trust (DER).
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Certifies (DER) that the holder of `public_key` is `name`. The caller has checked that it may be.
    ///
    /// # Errors
    /// If the key is none.
    pub fn issue(&self, name: NodeName, public_key: &[u8]) -> Result<Vec<u8>, CaError> {
        let key = NodePublicKey::new(public_key)?;
        let issuer = Issuer::new(authority_params(self.environment), &self.key);
        let certificate = node_params(name)?.signed_by(&key, &issuer)?;
        Ok(certificate.der().to_vec())
    }
}

/// A node's key pair. Made where it is used, kept there.
pub struct NodeKey(KeyPair);

impl NodeKey {
    /// # Errors
    /// If the system gives no randomness.
    pub fn generate() -> Result<NodeKey, CaError> {
        Ok(NodeKey(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
    }

    /// # Errors
    /// If it is not the text of a private key.
    pub fn from_pem(pem: &str) -> Result<NodeKey, CaError> {
        Ok(NodeKey(KeyPair::from_pem(pem)?))
    }

    /// The private key as text, for the data directory.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// What [`Authority::issue`] wants.
    pub fn public_key(&self) -> &[u8] {
        self.0.public_key_raw()
    }
}

/// What a node shows to its peers, and what it believes of them.
pub struct Credentials {
    pub(crate) authority: CertificateDer<'static>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// `authority` and `certificate` are DER.
    pub fn new(authority: &[u8], certificate: &[u8], key: &NodeKey) -> Credentials {
        let key = PrivatePkcs8KeyDer::from(key.0.serialize_der());
        Credentials {
            authority: CertificateDer::from(authority.to_vec()),
            certificate: CertificateDer::from(certificate.to_vec()),
            key: key.into(),
        }
    }
}

impl Clone for Credentials {
    fn clone(&self) -> Credentials {
        Credentials {
            authority: self.authority.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
        }
    }
}

/// What a node without a certificate shows: that it has its key.
pub(crate) struct SelfSigned {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

pub(crate) fn self_signed(key: &NodeKey) -> Result<SelfSigned, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("clusterd, not yet a node".to_owned());
    let certificate = params.self_signed(&key.0)?.der().clone();
    let key = PrivatePkcs8KeyDer::from(key.0.serialize_der()).into();
    Ok(SelfSigned { certificate, key })
}

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    pub name: NodeName,
    pub public_key: Vec<u8>,
}

/// Reads a certificate that `authority` has signed (both DER).
///
/// # Errors
/// If another authority signed it, or it is no node's.
pub fn verify(certificate: &[u8], authority: &[u8]) -> Result<Certified, CaError> {
    let name = crate::quic::tls::verified_name(certificate, authority)?;
    let certificate = CertificateDer::from(certificate);
    let end = EndEntityCert::try_from(&certificate).map_err(crate::TlsError::from)?;
    let info = end.subject_public_key_info();
    // The point is the last thing in the structure.
    let (_, public_key) = info
        .split_last_chunk::<PUBLIC_KEY_BYTES>()
        .ok_or(CaError::PublicKey)?;
    Ok(Certified {
        name,
        public_key: public_key.to_vec(),
    })
}

/// Whether this is a node's public key: a point that lies on the curve, so that a certificate for it can be used.
///
/// # Errors
/// If it is none.
pub fn check_public_key(public_key: &[u8]) -> Result<(), CaError> {
    NodePublicKey::new(public_key)?;
    // Agreeing on a secret is what checks the point; the secret is thrown away.
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new());
    let theirs = UnparsedPublicKey::new(&ECDH_P256, public_key);
    let agreed = own.and_then(|own| agreement::agree_ephemeral(own, &theirs, |_secret| ()));
    agreed.map_err(|_| CaError::PublicKey)
}

/// A certificate (DER) as text.
pub fn certificate_to_pem(der: &[u8]) -> String {
    const LINE: usize = 64;
    let text = base64(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(LINE) {
        pem.extend(line.iter().map(|b| char::from(*b)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// A certificate's DER from its text.
///
/// # Errors
/// If the text has no certificate.
pub fn certificate_from_pem(pem: &str) -> Result<Vec<u8>, CaError> {
    Ok(CertificateDer::from_pem_slice(pem.as_bytes())?.to_vec())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let padded = [
            group[0],
            group.get(1).copied().unwrap_or(0),
            group.get(2).copied().unwrap_or(0),
        ];
        let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for digit in 0..4 {
            let used = digit <= group.len();
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if used {
                char::from(DIGITS[index as usize])
            } else {
                '='
            });
        }
    }
    text
}

fn authority_params(environment: EnvironmentId) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(format!("clusterd {environment}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn node_params(name: NodeName) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(format!("clusterd node {}", name.node));
    params.subject_alt_names = vec![SanType::URI(name.to_string().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn common_name(name: String) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// A public key that came from another node.
struct NodePublicKey([u8; PUBLIC_KEY_BYTES]);

impl NodePublicKey {
    fn new(bytes: &[u8]) -> Result<NodePublicKey, CaError> {
        let bytes: [u8; PUBLIC_KEY_BYTES] = bytes.try_into().map_err(|_| CaError::PublicKey)?;
        // The mark of an uncompressed point. That it lies on the curve is for [`check_public_key`].
        match bytes[0] {
            4 => Ok(NodePublicKey(bytes)),
            _ => Err(CaError::PublicKey),
        }
    }
}

impl PublicKeyData for NodePublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repr::NodeId;

    fn name(node: u64) -> NodeName {
        NodeName {
            environment: EnvironmentId(5),
            node: NodeId(node),
        }
    }

    #[test]
    fn a_key_that_is_no_point_of_the_curve_is_none() {
        let good = NodeKey::generate().unwrap().public_key().to_vec();
        assert!(check_public_key(&good).is_ok());
        let mut off = good.clone();
        off[40] ^= 1;
        for bad in [&off[..], &good[1..], &[], &[4; PUBLIC_KEY_BYTES]] {
            assert!(matches!(check_public_key(bad), Err(CaError::PublicKey)));
        }
    }

    #[test]
    fn a_restored_authority_issues_what_the_first_one_would_have() {
        let authority = Authority::create(EnvironmentId(5)).unwrap();
        let again = Authority::restore(
            EnvironmentId(5),
            &authority.key_pem(),
            authority.certificate(),
        )
        .unwrap();
        let key = NodeKey::generate().unwrap();
        let certificate = again.issue(name(3), key.public_key()).unwrap();
        let read = verify(&certificate, authority.certificate()).unwrap();
        assert_eq!(read.name, name(3));
        assert_eq!(read.public_key, key.public_key());
        let foreign = Authority::create(EnvironmentId(5)).unwrap();
        assert!(verify(&certificate, foreign.certificate()).is_err());
    }

    #[test]
    fn keys_and_certificates_survive_as_text() {
        let key = NodeKey::generate().unwrap();
        let again = NodeKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.public_key(), again.public_key());
        for length in 0..70 {
            let der: Vec<u8> = (0..length).collect();
            let pem = certificate_to_pem(&der);
            assert_eq!(certificate_from_pem(&pem).unwrap(), der, "{pem}");
        }
        assert!(certificate_from_pem("nothing").is_err());
    }

    #[test]
    fn only_public_keys_are_certified() {
        let authority = Authority::create(EnvironmentId(5)).unwrap();
        for bytes in [&[][..], &[4; 64], &[5; 65], &[4; 66]] {
            let issued = authority.issue(name(1), bytes);
            assert!(matches!(issued, Err(CaError::PublicKey)));
        }
    }
}
