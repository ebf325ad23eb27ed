//! Proving a password to a broker: PLAIN (RFC 4616) and SCRAM (RFC 5802, RFC 7677).

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac, pbkdf2};

use crate::api::demand::SaslMechanism;

/// A server that wants more would only keep us busy; Kafka's own maximum is 16384.
const MOST_ITERATIONS: u32 = 100_000;
/// "n,,", which says that there is no channel binding.
const HEADER: &str = "biws";

/// A user with the way to prove who he is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    pub mechanism: SaslMechanism,
    pub username: String,
    pub password: String,
}

impl Identity {
    /// The mechanism's name on the wire.
    #[must_use]
    pub fn mechanism(&self) -> &'static str {
        match self.mechanism {
            SaslMechanism::Plaintext => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    /// All that PLAIN says.
    #[must_use]
    pub fn plain(&self) -> String {
        format!("\0{}\0{}", self.username, self.password)
    }
}

/// Why the other side is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    #[error("there is no randomness")]
    Randomness,
    #[error("the server's message is none of SCRAM")]
    Malformed,
    #[error("the server wants {0} iterations, and more than {MOST_ITERATIONS} are not made")]
    Iterations(u32),
    #[error("the server does not know the password itself")]
    Impostor,
}

/// A SCRAM exchange, from our side.
pub struct Scram<'a> {
    identity: &'a Identity,
    nonce: String,
}

/// Our last message, and what the server has to answer to it.
#[derive(Debug)]
pub struct Proof {
    pub message: String,
    signature: String,
}

impl<'a> Scram<'a> {
    /// # Errors
    /// Where there is no randomness.
    pub fn new(identity: &'a Identity) -> Result<Self, ScramError> {
        let mut random = [0; 24];
        SystemRandom::new().fill(&mut random).map_err(|_| ScramError::Randomness)?;
        Ok(Self { identity, nonce: STANDARD.encode(random) })
    }

    fn first_bare(&self) -> String {
        let user = self.identity.username.replace('=', "=3D").replace(',', "=2C");
        format!("n={user},r={}", self.nonce)
    }

    #[must_use]
    pub fn first(&self) -> String {
        format!("n,,{}", self.first_bare())
    }

    /// The answer to the server's first message.
    ///
    /// # Errors
    /// If that is none, or not to be believed.
    pub fn prove(&self, server_first: &str) -> Result<Proof, ScramError> {
        let mut parts = server_first.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).ok_or(ScramError::Malformed);
        let (nonce, salt, iterations) = (part("r=")?, part("s=")?, part("i=")?);
        if !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Malformed);
        }
        let salt = STANDARD.decode(salt).map_err(|_| ScramError::Malformed)?;
        let iterations: NonZeroU32 = iterations.parse().map_err(|_| ScramError::Malformed)?;
        if iterations.get() > MOST_ITERATIONS {
            return Err(ScramError::Iterations(iterations.get()));
        }
        let unproven = format!("c={HEADER},r={nonce}");
        let signed = format!("{},{server_first},{unproven}", self.first_bare());
        let (proof, signature) = self.keys(&salt, iterations, signed.as_bytes());
        Ok(Proof { message: format!("{unproven},p={}", STANDARD.encode(proof)), signature: STANDARD.encode(signature) })
    }

    /// The client's proof and the server's signature.
    fn keys(&self, salt: &[u8], iterations: NonZeroU32, signed: &[u8]) -> (Vec<u8>, hmac::Tag) {
        let (stretch, mac, hash) = match self.identity.mechanism {
            SaslMechanism::ScramSha512 => (pbkdf2::PBKDF2_HMAC_SHA512, hmac::HMAC_SHA512, &digest::SHA512),
            _ => (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256),
        };
        let mut salted = vec![0; hash.output_len()];
        pbkdf2::derive(stretch, iterations, salt, self.identity.password.as_bytes(), &mut salted);
        let keyed = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(mac, key), text);
        let client_key = keyed(&salted, b"Client Key");
        let client_signature = keyed(digest::digest(hash, client_key.as_ref()).as_ref(), signed);
        let proof = client_key.as_ref().iter().zip(client_signature.as_ref()).map(|(a, b)| a ^ b).collect();
        (proof, keyed(keyed(&salted, b"Server Key").as_ref(), signed))
    }
}

impl Proof {
    /// Whether the server, too, knows the password.
    ///
    /// # Errors
    /// If its last message does not show that.
    pub fn check(&self, server_final: &str) -> Result<(), ScramError> {
        let shown = server_final.split(',').next().and_then(|part| part.strip_prefix("v="));
        if shown == Some(&self.signature) { Ok(()) } else { Err(ScramError::Impostor) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn identity(username: &str) -> Identity {
        Identity { mechanism: SaslMechanism::ScramSha256, username: username.to_owned(), password: "pencil".to_owned() }
    }

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_standards_example() {
        let identity = identity("user");
        let scram = Scram { identity: &identity, nonce: "rOprNGfwEbeRWgbNEkqO".to_owned() };
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server_first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proof = scram.prove(server_first).unwrap();
        let expected =
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(proof.message, expected);
        assert_eq!(proof.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        assert_eq!(proof.check("v=AAAA"), Err(ScramError::Impostor));
        assert_eq!(proof.check("e=invalid-proof"), Err(ScramError::Impostor));
    }

    #[test]
    fn what_a_server_should_not_say() {
        let identity = identity("a=b,c");
        let scram = Scram { identity: &identity, nonce: "ab".to_owned() };
        assert_eq!(scram.first(), "n,,n=a=3Db=2Cc,r=ab");
        let refused = |message: &str| scram.prove(message).unwrap_err();
        assert_eq!(refused("r=xy,s=AAAA,i=4096"), ScramError::Malformed, "another's nonce");
        assert_eq!(refused("r=abc,s=AAAA,i=0"), ScramError::Malformed);
        assert_eq!(refused("r=abc,s=?,i=1"), ScramError::Malformed);
        assert_eq!(refused("r=abc"), ScramError::Malformed);
        assert_eq!(refused("r=abc,s=AAAA,i=4000000000"), ScramError::Iterations(4_000_000_000));
    }
}
