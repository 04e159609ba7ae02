//! Tokens: what an operator carries from one machine to another, so that nodes let each other in.

use crate::hex;
use host::Host;
use mesh::join::sha256;
use std::fmt;
use std::str::FromStr;

const BOOTSTRAP: &str = "bootstrap_";
const JOIN: &str = "join_";
const SECRET_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// Behind the rest, so that a lost or changed character is noticed here and not by another node.
const CHECKSUM_BYTES: usize = 4;

/// 128 random bits that were shown once.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    pub fn random(host: &Host) -> Secret {
        let mut bytes = [0; SECRET_BYTES];
        host.rng.fill(&mut bytes);
        Secret(bytes)
    }

    /// What nodes keep of it, and what they prove to each other to know. The secret cannot be had from it.
    pub fn hash(&self) -> [u8; HASH_BYTES] {
        sha256(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A token. Its text is what `Display` gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// Shared by the founders of a new environment, until it is formed.
    Bootstrap(Secret),
    /// Lets one node into an environment that exists.
    Join {
        /// SHA-256 of the certificate of the environment's authority: the joining node knows by it whom to believe.
        authority: [u8; HASH_BYTES],
        secret: Secret,
    },
}

impl Token {
    /// A new token for the founders of an environment.
    pub fn bootstrap(host: &Host) -> Token {
        Token::Bootstrap(Secret::random(host))
    }

    /// A new token that lets a node into the environment whose authority has this certificate (DER). The environment keeps [`Secret::hash`].
    pub fn join(host: &Host, authority_certificate: &[u8]) -> (Token, [u8; HASH_BYTES]) {
        let secret = Secret::random(host);
        let hash = secret.hash();
        let authority = sha256(authority_certificate);
        (Token::Join { authority, secret }, hash)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, mut bytes) = match self {
            Token::Bootstrap(secret) => (BOOTSTRAP, secret.0.to_vec()),
            Token::Join { authority, secret } => (JOIN, [&authority[..], &secret.0].concat()),
        };
        bytes.extend(checksum(name, &bytes));
        write!(f, "{name}{}", hex::encode(&bytes))
    }
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("this is no token of clusterd: one begins with {BOOTSTRAP} or {JOIN}")]
    Kind,
    #[error("the token is incomplete, or a character of it is wrong: copy it again")]
    Garbled,
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Token, TokenError> {
        let text = text.trim();
        let (name, digits) = [BOOTSTRAP, JOIN]
            .iter()
            .find_map(|name| Some((*name, text.strip_prefix(name)?)))
            .ok_or(TokenError::Kind)?;
        let bytes = hex::decode(digits).map_err(|_| TokenError::Garbled)?;
        let (bytes, sum) = bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .filter(|(bytes, sum)| checksum(name, bytes) == **sum)
            .ok_or(TokenError::Garbled)?;
        let _ = sum;
        let (authority, secret) = bytes
            .split_last_chunk::<SECRET_BYTES>()
            .ok_or(TokenError::Garbled)?;
        let secret = Secret(*secret);
        match (name == JOIN, authority.len()) {
            (false, 0) => Ok(Token::Bootstrap(secret)),
            (true, HASH_BYTES) => Ok(Token::Join {
                authority: authority.try_into().map_err(|_| TokenError::Garbled)?,
                secret,
            }),
            _ => Err(TokenError::Garbled),
        }
    }
}

fn checksum(name: &str, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    crc32c::crc32c_append(crc32c::crc32c(name.as_bytes()), bytes).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_and_no_changed_one_does() {
        let secret = Secret([7; SECRET_BYTES]);
        let tokens = [
            Token::Bootstrap(secret.clone()),
            Token::Join {
                authority: [9; HASH_BYTES],
                secret,
            },
        ];
        for token in tokens {
            let text = token.to_string();
            assert_eq!(text.parse(), Ok(token.clone()));
            assert_eq!(format!(" {text}\n").parse(), Ok(token));
            for at in 0..text.len() {
                let mut changed = text.clone().into_bytes();
                changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
                let changed = String::from_utf8(changed).unwrap();
                assert!(changed.parse::<Token>().is_err(), "{changed}");
                assert!(text[..at].parse::<Token>().is_err(), "{at}");
            }
        }
        let swapped = Token::Bootstrap(Secret([7; SECRET_BYTES])).to_string();
        let swapped = swapped.replace(BOOTSTRAP, JOIN);
        assert_eq!(swapped.parse::<Token>(), Err(TokenError::Garbled));
    }

    #[test]
    fn a_token_is_not_shown_by_accident() {
        let token = Token::Bootstrap(Secret([0xab; SECRET_BYTES]));
        assert_eq!(format!("{token:?}"), "Bootstrap(Secret)");
    }
}
