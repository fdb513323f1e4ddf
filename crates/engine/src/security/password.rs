//! The password that all nodes and clients of a service share.
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ring::{hmac, rand::SystemRandom};
use tonic::metadata::{Ascii, MetadataValue};

/// In front of the password in a gRPC call's `authorization`.
const BEARER: &[u8] = b"Bearer ";
/// In front of a name and the password, as a browser sends them. The name may be any.
const BASIC: &[u8] = b"Basic ";
/// Clients write it with and without the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The password that a node sends, and the others that it takes as well while a new one comes in. They are compared by
/// their keyed hashes, so that the time of that shows neither their bytes nor their length.
#[derive(Clone)]
pub struct Password {
    key: hmac::Key,
    tags: Vec<hmac::Tag>,
    text: String,
    bearer: MetadataValue<Ascii>,
}

impl Password {
    /// Takes one or more, with spaces between them, of visible ASCII characters, which a header can hold. None: there are
    /// others. The first is the one to send.
    pub fn new(texts: &str) -> Option<Self> {
        if !texts.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return None;
        }
        let text = texts.split_ascii_whitespace().next()?;
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        let mut bearer = MetadataValue::try_from([BEARER, text.as_bytes()].concat()).ok()?;
        bearer.set_sensitive(true); // neither printed nor kept in a table of headers
        let tags = texts.split_ascii_whitespace().map(|text| hmac::sign(&key, text.as_bytes())).collect();
        Some(Self { tags, key, text: text.to_owned(), bearer })
    }

    /// Returns whether this is one of the passwords.
    pub fn is(&self, given: &[u8]) -> bool {
        let is = |tag: &hmac::Tag| hmac::verify(&self.key, given, tag.as_ref()).is_ok();
        self.tags.iter().fold(false, |found, tag| is(tag) | found)
    }

    /// Returns whether the value of an `authorization` header has it.
    pub fn is_in(&self, authorization: &[u8]) -> bool {
        if let Some(password) = after(authorization, BEARER) {
            return self.is(password);
        }
        let pair = after(authorization, BASIC).and_then(|text| BASE64.decode(text).ok()).unwrap_or_default();
        pair.iter().position(|&byte| byte == b':').is_some_and(|colon| self.is(&pair[colon + 1..]))
    }

    /// Returns the first password as text, to send to a peer.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the value of an `authorization` header that has it.
    pub fn bearer(&self) -> &MetadataValue<Ascii> {
        &self.bearer
    }
}

/// Returns what follows the name of a scheme, if it is that one.
fn after<'a>(authorization: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (name, rest) = authorization.split_at_checked(scheme.len())?;
    name.eq_ignore_ascii_case(scheme).then_some(rest)
}
