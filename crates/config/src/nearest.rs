//! What was probably meant: the nearest of the allowed words.
//!
//! Case and separators do not count (`bodyBytes` means `body_bytes`); a word is near when at most a third of it differs.
//!
//! Invariant: bounded work: long words are nobody's typing mistake and are not compared.

/// Longer words than this are not compared.
const MAX_WORD_BYTES: usize = 64;

/// How many allowed words a message lists.
const MAX_LISTED: usize = 40;

/// The allowed word nearest to `word`, if one is near.
pub(crate) fn nearest<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if word.len() > MAX_WORD_BYTES {
        return None;
    }
    let folded = fold(word);
    allowed
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_WORD_BYTES)
        .filter_map(|candidate| {
            let other = fold(candidate);
            let distance = strsim::damerau_levenshtein(&folded, &other);
            let length = folded.chars().count().max(other.chars().count());
            (distance <= (length / 3).max(1) && distance < length).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

/// Whether two names are the same but for case and separators.
pub(crate) fn is_same_name(a: &str, b: &str) -> bool {
    let fold = |text: &str| text.replace(['-', '.'], "_").to_lowercase();
    fold(a) == fold(b)
}

fn fold(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '_' | '-' | ' ' | '.')).flat_map(char::to_lowercase).collect()
}

/// The allowed words for a message: `` `a`, `b`, `c` ``.
pub(crate) fn listed<'a>(allowed: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<_> = allowed.into_iter().map(|word| format!("`{word}`")).collect();
    if words.is_empty() {
        return "nothing".to_owned();
    }
    let more = if words.len() > MAX_LISTED { ", ..." } else { "" };
    words[..words.len().min(MAX_LISTED)].join(", ") + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_far_words_are_not() {
        let allowed = ["rate_limit", "body_bytes", "upstream", "by", "to"];
        for (word, expected) in [
            ("rate_limits", Some("rate_limit")),
            ("ratelimit", Some("rate_limit")),
            ("bodyBytes", Some("body_bytes")),
            ("upsteram", Some("upstream")),
            ("bye", Some("by")),
            ("x", None),
            ("ab", None),
            ("permissions", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, allowed).as_deref(), expected, "{word}");
        }
        assert_eq!(nearest(&"upstream".repeat(10), allowed), None);
    }

    #[test]
    fn names_are_the_same_across_case_and_separators() {
        assert!(is_same_name("MY_APP", "my-app") && is_same_name("X_Y", "x.y"));
        assert!(!is_same_name("myapp", "my_app"));
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(["a", "b"]), "`a`, `b`");
        assert_eq!(listed([]), "nothing");
        let many: Vec<_> = (0..50).map(|n| n.to_string()).collect();
        assert!(listed(many.iter().map(String::as_str)).ends_with("`39`, ..."));
    }
}
