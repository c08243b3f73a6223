//! Names of accounts and addresses for mail: one written form, so that nobody can look like somebody else.
//!
//! Invariant: two names that are taken differ in what people see: lower-case ASCII letters, digits, `.`, `_` and `-` alone.

use portcullis_store::accounts::LONGEST_NAME_BYTES;

/// The longest address for mail (RFC 5321, section 4.5.3.1.3, without the angle brackets), in bytes.
pub const LONGEST_EMAIL_BYTES: usize = 254;

/// Names that only the operator gives away.
const RESERVED: &[&str] = &[
    "abuse",
    "admin",
    "administrator",
    "anonymous",
    "api",
    "daemon",
    "everyone",
    "guest",
    "help",
    "hostmaster",
    "info",
    "mail",
    "me",
    "moderator",
    "nobody",
    "noreply",
    "no-reply",
    "null",
    "operator",
    "owner",
    "portcullis",
    "postmaster",
    "root",
    "security",
    "self",
    "service",
    "staff",
    "superuser",
    "support",
    "sysadmin",
    "system",
    "test",
    "undefined",
    "user",
    "webmaster",
];

/// The one written form of an account's name.
///
/// # Errors
/// What a name is.
pub fn canonical(written: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let has_ends = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.ends_with(|last: char| last.is_ascii_alphanumeric())
    };
    if written.is_empty() || written.len() > LONGEST_NAME_BYTES || !written.bytes().all(is_plain) || !has_ends(written)
    {
        return Err(
            "a user name has 1 to 64 letters a-z, digits, dots, dashes and underscores, and begins and ends with a letter or digit",
        );
    }
    Ok(written.to_ascii_lowercase())
}

/// Whether a canonical name is not for everybody. Dots, dashes and underscores hide nothing.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let bare: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    RESERVED.iter().any(|reserved| *reserved == name || reserved.replace('-', "") == bare)
}

/// Whether this is an address for mail that no two programs read differently: one `@`, a plain local part, a domain of names.
#[must_use]
pub fn is_email(written: &str) -> bool {
    let Some((local, domain)) = written.split_once('@') else { return false };
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    written.len() <= LONGEST_EMAIL_BYTES
        && (1..=64).contains(&local.len())
        && local.bytes().all(is_local)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.contains('.')
        && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row 118.
    #[test]
    fn row_118_nobody_can_look_like_somebody_else() {
        for (written, expected) in [
            ("ann", Some("ann")),
            ("Ann.Berg-2", Some("ann.berg-2")),
            ("ADMIN", Some("admin")),
            // A Cyrillic letter, a full-width one, a combining one, a zero-width one.
            ("\u{430}dmin", None),
            ("\u{ff41}dmin", None),
            ("a\u{301}dmin", None),
            ("ad\u{200b}min", None),
            ("", None),
            (".ann", None),
            ("ann.", None),
            ("ann berg", None),
            ("ann\0", None),
            ("ann@berg", None),
        ] {
            assert_eq!(canonical(written).ok().as_deref(), expected, "{written:?}");
        }
        assert!(canonical(&"a".repeat(64)).is_ok() && canonical(&"a".repeat(65)).is_err());
        for name in ["admin", "a.d.m.i.n", "ad-min", "root", "no-reply", "noreply", "no.reply"] {
            assert!(is_reserved(name), "{name}");
        }
        assert!(!is_reserved("admiral"));
    }

    /// Row 118, CVE-2026-40574.
    #[test]
    fn row_118_an_address_has_one_reading() {
        for good in ["a@example.com", "a.b+c@mail.example.co.uk", "o'neil@example.org"] {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "a@evil.com@company.com",
            "\"a@b\"@example.com",
            "a@example",
            "a@-example.com",
            "a@exa mple.com",
            "a@example.com\r\nBcc: b@example.com",
            "a@example.com,b@example.com",
            "<a@example.com>",
            "@example.com",
            "a@",
            ".a@example.com",
            "a..b@example.com",
            "a@ex\u{430}mple.com",
            &format!("{}@example.com", "a".repeat(65)),
        ] {
            assert!(!is_email(bad), "{bad}");
        }
    }
}
