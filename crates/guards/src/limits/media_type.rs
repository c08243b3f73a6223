//! Media types: what a route accepts as a body, and whether a `Content-Type` is one of them (RFC 9110, section 8.3.1).
//!
//! Invariant: parameters and case make no difference, and a value that is no media type is none of the accepted ones.

/// A media type that is accepted: `application/json`, or `image/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MediaType {
    /// In lower case.
    kind: Box<str>,
    /// In lower case; `None` for any.
    subtype: Option<Box<str>>,
}

impl MediaType {
    /// Reads what the operator wrote.
    ///
    /// # Errors
    /// What would be right.
    pub(super) fn parse(text: &str) -> Result<MediaType, String> {
        match split(text.as_bytes()) {
            Some((kind, subtype)) if !text.contains(';') && kind != b"*" => {
                let lower = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_ascii_lowercase().into_boxed_str();
                Ok(MediaType { kind: lower(kind), subtype: (subtype != b"*").then(|| lower(subtype)) })
            }
            _ => Err(format!("`{text}` is no media type: write `application/json` or `image/*`, without parameters")),
        }
    }

    /// Whether the value of a `Content-Type` field is of this type.
    pub(super) fn takes(&self, content_type: &[u8]) -> bool {
        split(content_type).is_some_and(|(kind, subtype)| {
            kind.eq_ignore_ascii_case(self.kind.as_bytes())
                && self.subtype.as_ref().is_none_or(|own| subtype.eq_ignore_ascii_case(own.as_bytes()))
        })
    }
}

/// Type and subtype of a value, parameters cut off.
fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let essence = value.split(|byte| *byte == b';').next()?.trim_ascii();
    let slash = essence.iter().position(|byte| *byte == b'/')?;
    let (kind, subtype) = (&essence[..slash], &essence[slash + 1..]);
    (is_token(kind) && is_token(subtype)).then_some((kind, subtype))
}

/// RFC 9110, section 5.6.2.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}
