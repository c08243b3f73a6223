//! What an unquoted scalar means: the core schema of YAML 1.2.2 (section 10.3.2), and nothing else.
//!
//! `true` and `false` are bools; `no`, `yes`, `on` and `off` are text, and so are `1_000`, `12:30` and dates. That settles the
//! "Norway problem": a country code `no` stays text.
//!
//! Invariant: pure; the same text always means the same.

/// What an unquoted text means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Meaning {
    Null,
    Bool(bool),
    Integer(i128),
    /// A number with a fraction or an exponent, or an integer beyond `i128`.
    Float(f64),
    Text,
}

pub(crate) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

pub(crate) fn meaning(text: &str) -> Meaning {
    match text {
        _ if is_null(text) => return Meaning::Null,
        "true" | "True" | "TRUE" => return Meaning::Bool(true),
        "false" | "False" | "FALSE" => return Meaning::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Meaning::Float(f64::NAN),
        _ => {}
    }
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let valid = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
            return match i128::from_str_radix(digits, radix) {
                Ok(number) if valid => Meaning::Integer(number),
                Err(_) if valid => Meaning::Float(f64::INFINITY),
                _ => Meaning::Text,
            };
        }
    }
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Meaning::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    if unsigned.bytes().all(|b| b.is_ascii_digit())
        && let Ok(number) = unsigned.parse::<i128>()
    {
        return Meaning::Integer(if negative { -number } else { number });
    }
    if is_float(unsigned) { text.parse().map_or(Meaning::Text, Meaning::Float) } else { Meaning::Text }
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(unsigned: &str) -> bool {
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        None => (unsigned, None),
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
    };
    let mantissa_is_right = match mantissa.split_once('.') {
        None => !mantissa.is_empty() && all_digits(mantissa),
        Some(("", fraction)) => !fraction.is_empty() && all_digits(fraction),
        Some((whole, fraction)) => all_digits(whole) && all_digits(fraction),
    };
    let exponent_is_right = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    mantissa_is_right && exponent_is_right
}

/// Whether a decimal integer has a leading zero, which YAML 1.1 and C read as octal and YAML 1.2 does not.
pub(crate) fn has_leading_zero(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_schema_and_nothing_else() {
        for (text, expected) in [
            ("", Meaning::Null),
            ("~", Meaning::Null),
            ("null", Meaning::Null),
            ("true", Meaning::Bool(true)),
            ("FALSE", Meaning::Bool(false)),
            ("12", Meaning::Integer(12)),
            ("-12", Meaning::Integer(-12)),
            ("+12", Meaning::Integer(12)),
            ("0640", Meaning::Integer(640)),
            ("0o640", Meaning::Integer(416)),
            ("0xFF", Meaning::Integer(255)),
            ("18446744073709551616", Meaning::Integer(1 << 64)),
            ("1.5", Meaning::Float(1.5)),
            ("1.", Meaning::Float(1.0)),
            (".5", Meaning::Float(0.5)),
            ("-1e3", Meaning::Float(-1000.0)),
            ("1E-2", Meaning::Float(0.01)),
            ("-.inf", Meaning::Float(f64::NEG_INFINITY)),
        ] {
            assert_eq!(meaning(text), expected, "{text}");
        }
        let texts = [
            "no",
            "yes",
            "on",
            "off",
            "NO",
            "y",
            "tRue",
            "nil",
            "1_000",
            "12:30",
            "2026-01-01",
            "0b1",
            "0x",
            "0o9",
            "1e",
            "1e+",
            ".",
            "-",
            "+",
            "e3",
            "inf",
            "nan",
            "infinity",
            "1.2.3",
            "30s",
            "-.5.",
            "0x-1",
            "١",
        ];
        for text in texts {
            assert_eq!(meaning(text), Meaning::Text, "{text}");
        }
    }

    #[test]
    fn leading_zeros_are_seen() {
        assert!(has_leading_zero("0640") && has_leading_zero("-00"));
        for text in ["0", "10", "0o640", "0.5", ""] {
            assert!(!has_leading_zero(text), "{text}");
        }
    }
}
