//! Which passwords are taken: long enough, not what everybody has, not the user's own name. No composition rules.
//!
//! NIST SP 800-63B-4: 15 characters where the password is all there is, fewer beside a second factor; at least 64 allowed, the
//! whole of it looked at; held against common ones and against words of the context; no rules about kinds of characters.
//!
//! Invariant: the reasons are fixed texts; none of them holds a part of the password.

use portcullis_core::secret::Secret;

use crate::common;

/// The shortest word of the context that a password may not hold, in characters; shorter ones are in too many good passwords.
const SHORTEST_CONTEXT: usize = 4;

/// What a password must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Fewest code points.
    pub length: usize,
    /// Fewest code points where the account has a second factor.
    pub length_with_totp: usize,
    /// Words that no password may hold, in lower case: the service's name.
    pub words: Vec<String>,
}

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too few code points.
    #[error("the password is too short")]
    Short,
    /// Too many bytes.
    #[error("the password is longer than 1024 bytes")]
    Long,
    /// One that guessers try first.
    #[error("the password is one that many people use, or little more than that")]
    Common,
    /// It holds a word that belongs to the account or the service.
    #[error("the password holds the name of the user or of the service")]
    Context,
    /// It is the one it would replace.
    #[error("the password is the same as before")]
    Same,
}

impl Refused {
    /// For clients.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Refused::Short => "the password is too short",
            Refused::Long => "the password is longer than 1024 bytes",
            Refused::Common => "the password is one that many people use, or little more than that",
            Refused::Context => "the password holds the name of the user or of the service",
            Refused::Same => "the password is the same as before",
        }
    }
}

impl Policy {
    /// Whether a normalised password is taken, for the account with this name and address.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn check(&self, password: &Secret, name: &str, email: Option<&str>, has_totp: bool) -> Result<(), Refused> {
        let text = password.expose();
        let shortest = if has_totp { self.length_with_totp } else { self.length };
        // NIST: each code point counts as one character.
        if text.chars().count() < shortest {
            return Err(Refused::Short);
        }
        let context: Vec<String> = self.context(name, email);
        let lower = text.to_lowercase();
        if context.iter().any(|word| lower.contains(word.as_str())) {
            return Err(Refused::Context);
        }
        if common::is_common(text, &[]) { Err(Refused::Common) } else { Ok(()) }
    }

    /// The words of an account: its name, the parts of both that have a meaning, the service.
    fn context(&self, name: &str, email: Option<&str>) -> Vec<String> {
        let (local, domain) = email.and_then(|email| email.split_once('@')).unwrap_or_default();
        // Of a domain the name that somebody chose, as `example` of `mail.example.com`.
        let chosen = domain.rsplit('.').nth(1).unwrap_or_default();
        let words = [name, local, chosen].into_iter().chain(self.words.iter().map(String::as_str));
        let words = words.map(str::to_lowercase);
        words.filter(|word| word.chars().count() >= SHORTEST_CONTEXT).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy { length: 15, length_with_totp: 12, words: vec!["acmeshop".to_owned()] }
    }

    fn check(password: &str, has_totp: bool) -> Result<(), Refused> {
        policy().check(&Secret::from(password), "annika", Some("a.berg@mail.bergfirma.example"), has_totp)
    }

    /// Rows 109 and 110.
    #[test]
    fn rows_109_and_110_length_common_ones_and_words_of_the_context() {
        for (password, has_totp, expected) in [
            ("kvxqjwzrtbnmpdg", false, Ok(())),
            ("kvxqjwzrtbnmpd", false, Err(Refused::Short)),
            ("kvxqjwzrtbnm", true, Ok(())),
            ("kvxqjwzrtbn", true, Err(Refused::Short)),
            // Code points, not bytes and not UTF-16.
            (&"\u{1f511}\u{1f512}\u{1f513}\u{1f50f}\u{1f50d}".repeat(2), false, Err(Refused::Short)),
            ("correct horse battery staple", false, Ok(())),
            (&"every word of a long text ".repeat(20), false, Ok(())),
            ("passwordpassword", false, Err(Refused::Common)),
            ("what ANNIKA likes best", false, Err(Refused::Context)),
            ("who is a.berg anyway", false, Err(Refused::Context)),
            ("working at Bergfirma today", false, Err(Refused::Context)),
            ("the acmeshop sells boats", false, Err(Refused::Context)),
        ] {
            assert_eq!(check(password, has_totp), expected, "{password}");
        }
    }

    #[test]
    fn short_names_are_in_too_many_good_passwords() {
        let checked = policy().check(&Secret::from("ten grey elephants swim"), "ann", None, false);
        assert_eq!(checked, Ok(()));
        assert_eq!(policy().check(&Secret::from("ten grey phantoms swim"), "ten", None, false), Ok(()));
    }

    #[test]
    fn a_reason_says_what_the_error_says() {
        for refused in [Refused::Short, Refused::Long, Refused::Common, Refused::Context, Refused::Same] {
            assert_eq!(refused.reason(), refused.to_string());
        }
    }
}
