//! The door for nodes that have no certificate of the environment yet.
//!
//! It has an ALPN of its own on the same UDP port. Whoever comes through it has proven nothing, and reaches nothing but one [`JoinHandler`], with a few short
//! questions. The two sides prove to each other that they know a secret by a [`Binding`]: a keyed hash over what TLS derived for this one connection, so that
//! somebody in the middle, who has two connections, cannot pass a proof on, and a recorded one is worth nothing.
//!
//! Before a node has a certificate it listens with a [`JoinListener`]; afterwards its [`crate::QuicTransport`] has the door too. Both sides of a question are
//! checked for the protocol's version first: all that nodes of every version can read is the magic and the version.

mod dial;
mod door;
mod frame;
mod listen;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use host::BoxFuture;
use ring::hmac;

pub use dial::JoinConnection;
pub(crate) use door::Door;
pub use listen::JoinListener;

/// One question or answer.
pub const JOIN_BYTES_MAX: usize = 256 << 10;
/// Strangers that are being answered at a time; more are refused.
pub const STRANGERS_MAX: usize = 64;
/// Questions on one connection.
const QUESTIONS_MAX: usize = 8;
/// A connection has this long for all its questions. An admission waits for a commit of ENV.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// The other side is given up after this much silence.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What TLS derived for one connection, the same on both of its ends and on no other.
#[derive(Clone, Copy)]
pub struct Binding([u8; 32]);

/// Which end of the connection says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Asking,
    Answering,
}

impl Binding {
    const LABEL: &[u8] = b"EXPERIMENTAL clusterd join";

    fn of(connection: &quinn::Connection) -> Option<Binding> {
        let mut bytes = [0; 32];
        let exported = connection.export_keying_material(&mut bytes, Self::LABEL, b"");
        exported.is_ok().then_some(Binding(bytes))
    }

    /// Proof that whoever says `statement` on this connection knows `secret`.
    pub fn prove(&self, secret: &[u8], role: Role, statement: &[u8]) -> [u8; 32] {
        let mut context = self.context(secret, role);
        context.update(statement);
        let mut proof = [0; 32];
        proof.copy_from_slice(context.sign().as_ref());
        proof
    }

    /// Whether `proof` is what [`Binding::prove`] gave to the other end.
    pub fn verify(&self, secret: &[u8], role: Role, statement: &[u8], proof: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let mut said = self.prefix(role).to_vec();
        said.extend_from_slice(statement);
        hmac::verify(&key, &said, proof).is_ok()
    }

    fn context(&self, secret: &[u8], role: Role) -> hmac::Context {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let mut context = hmac::Context::with_key(&key);
        context.update(&self.prefix(role));
        context
    }

    fn prefix(&self, role: Role) -> [u8; 33] {
        let mut prefix = [0; 33];
        prefix[0] = match role {
            Role::Asking => 1,
            Role::Answering => 2,
        };
        prefix[1..].copy_from_slice(&self.0);
        prefix
    }
}

/// SHA-256: how secrets and authorities are named without being shown.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}

/// A question of somebody who has proven nothing yet.
#[derive(Clone)]
pub struct Question {
    /// Where it came from.
    pub from: SocketAddr,
    pub binding: Binding,
    pub body: Bytes,
}

/// Answers strangers. `Err` is the refusal in words, which they see; the connection ends then.
pub trait JoinHandler: Send + Sync {
    fn answer(&self, question: Question) -> BoxFuture<'static, Result<Bytes, String>>;
}

impl<F> JoinHandler for F
where
    F: Fn(Question) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync,
{
    fn answer(&self, question: Question) -> BoxFuture<'static, Result<Bytes, String>> {
        self(question)
    }
}

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Nobody answers there, or not any more. Trying again may help.
    #[error("{0}")]
    Unreachable(String),
    /// The other side said no. That was not proven to come from anybody in particular.
    #[error("it refuses: {0}")]
    Refused(String),
    /// The other side does not speak as it should.
    #[error("{0}")]
    Malformed(String),
}

#[cfg(test)]
mod tests;
