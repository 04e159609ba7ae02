//! The transport over QUIC.

pub(crate) mod tls;

pub use tls::TlsError;
