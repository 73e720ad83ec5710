//! HMAC-SHA-256 of ring for the JWT library, which has no backend of its own here: those that it can bring are a second
//! cryptographic library beside the one that TLS needs. It knows this one algorithm, so no token can choose another.

use std::sync::Once;

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    signature::{self, Signer, Verifier},
};
use ring::hmac::{HMAC_SHA256, Key, sign, verify};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes it the library's own. Any number of times.
pub(super) fn install() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        // Only a second call in this process fails, and there is none.
        let _ = PROVIDER.install_default();
    });
}

struct Hs256(Key);

fn key(algorithm: Algorithm, family: AlgorithmFamily, secret: &[u8]) -> Result<Hs256> {
    if algorithm != Algorithm::HS256 || family != AlgorithmFamily::Hmac {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Hs256(Key::new(HMAC_SHA256, secret)))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the library asks for a reference")]
fn signer(algorithm: &Algorithm, secret: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Ok(Box::new(key(*algorithm, secret.family(), secret.as_bytes())?))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the library asks for a reference")]
fn verifier(algorithm: &Algorithm, secret: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    Ok(Box::new(key(*algorithm, secret.family(), secret.try_get_as_bytes()?)?))
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        Ok(sign(&self.0, message).as_ref().to_vec())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    /// In constant time.
    fn verify(&self, message: &[u8], tag: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        verify(&self.0, message, tag).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}
