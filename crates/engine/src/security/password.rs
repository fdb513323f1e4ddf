//! The password that all nodes and clients of a service share.
use ring::{hmac, rand::SystemRandom};
use tonic::metadata::{Ascii, MetadataValue};

/// In front of the password in a gRPC call's `authorization`.
const BEARER: &[u8] = b"Bearer ";

/// A password. It is compared by its keyed hash, so that the time of that shows neither its bytes nor its length.
#[derive(Clone)]
pub struct Password {
    key: hmac::Key,
    tag: hmac::Tag,
    text: String,
    bearer: MetadataValue<Ascii>,
}

impl Password {
    /// Takes visible ASCII characters, which a header can hold. None: there are others.
    pub fn new(text: &str) -> Option<Self> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        let mut bearer = MetadataValue::try_from([BEARER, text.as_bytes()].concat()).ok()?;
        bearer.set_sensitive(true); // neither printed nor kept in a table of headers
        Some(Self { tag: hmac::sign(&key, text.as_bytes()), key, text: text.to_owned(), bearer })
    }

    /// Returns whether this is the password.
    pub fn is(&self, given: &[u8]) -> bool {
        hmac::verify(&self.key, given, self.tag.as_ref()).is_ok()
    }

    /// Returns whether the value of an `authorization` header has it.
    pub fn is_in(&self, authorization: &[u8]) -> bool {
        let scheme = authorization.get(..BEARER.len());
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(BEARER)) && self.is(&authorization[BEARER.len()..])
    }

    /// Returns the password as text, to send to a peer.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the value of an `authorization` header that has it.
    pub fn bearer(&self) -> &MetadataValue<Ascii> {
        &self.bearer
    }
}
