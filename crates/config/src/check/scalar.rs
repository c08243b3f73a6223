//! Reads one scalar as one kind, and says why it cannot be read.
//!
//! Invariant: pure, and a text that was given by the environment, by a file or under a secret key is in no message.

use portcullis_core::{secret::MASK, units};
use serde_json::{Number as JsonNumber, Value};

use crate::{
    mistake::{Wrong, quoted},
    nearest::{listed, nearest},
    shape::{Choice, Integer, Kind, Number, Text},
    tree::{
        Content, Giver, Node, Scalar,
        scalar::{Meaning, has_leading_zero, meaning},
    },
};

/// The scalar as `kind`. `expected` puts the kind into words, for messages.
pub(super) fn read(
    scalar: &Scalar,
    kind: &Kind,
    is_nullable: bool,
    expected: impl Fn() -> String,
) -> Result<Value, Wrong> {
    let meaning = meaning_under(scalar, kind);
    if meaning == Meaning::Null && is_nullable {
        return Ok(Value::Null);
    }
    let result = match kind {
        Kind::Null => Err(mismatch(scalar, meaning, &expected())),
        Kind::Bool => match meaning {
            Meaning::Bool(bool) => Ok(Value::Bool(bool)),
            _ => Err(bool_mismatch(scalar, meaning, &expected())),
        },
        Kind::Integer(integer) => read_integer(scalar, meaning, integer, &expected),
        Kind::Number(number) => read_number(scalar, meaning, number, &expected),
        Kind::Text(text) => read_text(scalar, meaning, text, &expected),
        Kind::Choice(_) if meaning == Meaning::Null && scalar.text.is_empty() => {
            Err(mismatch(scalar, meaning, &expected()))
        }
        Kind::Choice(choices) => read_choice(scalar, choices),
        _ => read_any(scalar, meaning),
    };
    // What is wrong with a hidden text is said without the text, and without anything made from it.
    result.map_err(|wrong| match hidden_name(scalar, kind) {
        _ if scalar.text.is_empty() || scalar.text == MASK => wrong,
        Some(_) if matches!(kind, Kind::Text(_)) && is_unquoted_value(meaning) => {
            "write the value in quotes".to_owned().into()
        }
        Some(name) => Wrong::from(format!("{name} is not {}", expected())),
        None => wrong,
    })
}

/// Whether quotes would make a text of it.
fn is_unquoted_value(meaning: Meaning) -> bool {
    matches!(meaning, Meaning::Bool(_) | Meaning::Integer(_) | Meaning::Float(_))
}

/// What a node is, for messages about the wrong kind.
pub(super) fn got(node: &Node) -> String {
    match &node.content {
        Content::List(_) => "a list".to_owned(),
        Content::Map(_) => "a mapping".to_owned(),
        Content::Scalar(scalar) if !scalar.givers().is_empty() => "a single value".to_owned(),
        Content::Scalar(scalar) => got_scalar(scalar, meaning_under(scalar, &Kind::Any)),
        Content::Broken => "something else".to_owned(),
    }
}

fn got_scalar(scalar: &Scalar, meaning: Meaning) -> String {
    let shown = quoted(&scalar.text);
    match meaning {
        Meaning::Null => "nothing".to_owned(),
        Meaning::Bool(_) => shown,
        Meaning::Integer(_) | Meaning::Float(_) => format!("the number {shown}"),
        Meaning::Text => format!("the text {shown}"),
    }
}

/// How a message names a text that it must not show; `None` where the text may be shown.
fn hidden_name(scalar: &Scalar, kind: &Kind) -> Option<String> {
    match scalar.givers() {
        [] if matches!(kind, Kind::Text(text) if text.is_secret()) => Some("the value".to_owned()),
        [] => None,
        [Giver::Override(_)] => Some("the value".to_owned()),
        givers => {
            let names = givers.iter().map(|giver| match giver {
                Giver::Variable(name) | Giver::Override(name) => quoted(&format!("${{{name}}}")),
                Giver::File(path) => quoted(&format!("${{file:{path}}}")),
            });
            Some(format!("the text with {}", names.collect::<Vec<_>>().join(" and ")))
        }
    }
}

/// What the text means where `kind` is wanted. What `${...}` gives is text unless it stands alone where a number or a bool is
/// wanted. Quotes do not matter then: in JSON, and within `{ }`, an interpolation cannot be written without them.
pub(super) fn meaning_under(scalar: &Scalar, kind: &Kind) -> Meaning {
    let wants_text = !matches!(kind, Kind::Bool | Kind::Integer(_) | Kind::Number(_) | Kind::Null);
    match &scalar.given {
        Some(given) if given.is_whole && !wants_text => meaning(&scalar.text),
        None if scalar.is_plain => meaning(&scalar.text),
        _ => Meaning::Text,
    }
}

fn mismatch(scalar: &Scalar, meaning: Meaning, expected: &str) -> Wrong {
    format!("expected {expected}, got {}", got_scalar(scalar, meaning)).into()
}

/// The mismatch of a text that would be right without its quotes.
fn quoted_mismatch(scalar: &Scalar, got: Meaning, expected: &str, is_right: impl Fn(Meaning) -> bool) -> Wrong {
    let mut wrong = mismatch(scalar, got, expected);
    if !scalar.is_plain && is_right(meaning(&scalar.text)) {
        wrong.message.push_str("; leave the quotes away");
    }
    wrong
}

fn bool_mismatch(scalar: &Scalar, meaning: Meaning, expected: &str) -> Wrong {
    let mut wrong = quoted_mismatch(scalar, meaning, expected, |meaning| matches!(meaning, Meaning::Bool(_)));
    wrong.hint = match scalar.text.to_ascii_lowercase().as_str() {
        "yes" | "y" | "on" | "1" | "enabled" => Some("true".to_owned()),
        "no" | "n" | "off" | "0" | "disabled" => Some("false".to_owned()),
        other => nearest(other, ["true", "false"]).filter(|_| scalar.is_plain),
    };
    wrong
}

fn read_integer(
    scalar: &Scalar,
    meaning: Meaning,
    bounds: &Integer,
    expected: &impl Fn() -> String,
) -> Result<Value, Wrong> {
    let number = match meaning {
        Meaning::Integer(number) if has_leading_zero(&scalar.text) => {
            let message = format!(
                "{} has a leading zero, which is read in two ways: write `{number}`, or `0o...` for octal",
                quoted(&scalar.text)
            );
            return Err(message.into());
        }
        Meaning::Integer(number) => number,
        Meaning::Float(number) if number.fract() == 0.0 && !scalar.text.contains(['.', 'e', 'E']) => {
            // An integer beyond `i128`.
            return Err(out_of_range(scalar, &bounds.range()));
        }
        _ => {
            let is_integer = |meaning| matches!(meaning, Meaning::Integer(_));
            return Err(quoted_mismatch(scalar, meaning, &expected(), is_integer));
        }
    };
    if number < bounds.min || number > bounds.max {
        return Err(out_of_range(scalar, &bounds.range()));
    }
    let json = i64::try_from(number).map(JsonNumber::from).or_else(|_| u64::try_from(number).map(JsonNumber::from));
    json.map(Value::Number).map_err(|_| out_of_range(scalar, &bounds.range()))
}

fn read_number(
    scalar: &Scalar,
    meaning: Meaning,
    bounds: &Number,
    expected: &impl Fn() -> String,
) -> Result<Value, Wrong> {
    let number = match meaning {
        Meaning::Integer(number) => number as f64,
        Meaning::Float(number) => number,
        _ => {
            let is_number = |meaning| matches!(meaning, Meaning::Integer(_) | Meaning::Float(_));
            return Err(quoted_mismatch(scalar, meaning, &expected(), is_number));
        }
    };
    if !bounds.admits(number) {
        return Err(out_of_range(scalar, &bounds.bounds()));
    }
    let json = JsonNumber::from_f64(number).map(Value::Number);
    json.ok_or_else(|| format!("{} is not a finite number", quoted(&scalar.text)).into())
}

fn out_of_range(scalar: &Scalar, range: &str) -> Wrong {
    format!("{} is out of range: must be {range}", quoted(&scalar.text)).into()
}

fn read_text(scalar: &Scalar, meaning: Meaning, rules: &Text, expected: &impl Fn() -> String) -> Result<Value, Wrong> {
    let text = scalar.text.as_str();
    if rules.is_secret() && text == MASK {
        return Err(format!("`{MASK}` only stands for a secret in printed config: give the secret itself").into());
    }
    // The unit's own message is the better one for a number as well: it names the unit to add.
    let in_format = match (&rules.format, meaning) {
        (_, Meaning::Null | Meaning::Bool(_)) | (None, _) => None,
        (Some(format), _) => units::check_format(format, text),
    };
    match (in_format, meaning) {
        (Some(Err(message)), _) => return Err(message.into()),
        (Some(Ok(())), _) | (None, Meaning::Text) => {}
        (None, Meaning::Null) => return Err(mismatch(scalar, meaning, &expected())),
        (None, _) => {
            let mut wrong = mismatch(scalar, meaning, &expected());
            wrong.hint = Some(format!("\"{text}\""));
            return Err(wrong);
        }
    }
    let length = text.chars().count() as u64;
    if rules.min_length.is_some_and(|min| length < min) || rules.max_length.is_some_and(|max| length > max) {
        return Err(format!("{} has {length} characters, must have {}", quoted(text), rules.bounds()).into());
    }
    Ok(Value::from(text))
}

fn read_choice(scalar: &Scalar, choices: &[Choice]) -> Result<Value, Wrong> {
    let text = scalar.text.as_str();
    let values = || choices.iter().map(|choice| choice.value.as_str());
    if values().any(|value| value == text) {
        return Ok(Value::from(text));
    }
    let hint = nearest(text, values());
    let message = match hint {
        Some(_) => format!("{} is not allowed here", quoted(text)),
        None => format!("{} is not allowed here; allowed: {}", quoted(text), listed(values())),
    };
    Err(Wrong { message, hint })
}

fn read_any(scalar: &Scalar, meaning: Meaning) -> Result<Value, Wrong> {
    let not_a_number = || Wrong::from(format!("{} is not a number that can be held", quoted(&scalar.text)));
    match meaning {
        Meaning::Null => Ok(Value::Null),
        Meaning::Bool(bool) => Ok(Value::Bool(bool)),
        Meaning::Integer(number) => {
            let json =
                i64::try_from(number).map(JsonNumber::from).or_else(|_| u64::try_from(number).map(JsonNumber::from));
            json.map(Value::Number).map_err(|_| not_a_number())
        }
        Meaning::Float(number) => JsonNumber::from_f64(number).map(Value::Number).ok_or_else(not_a_number),
        Meaning::Text => Ok(Value::from(scalar.text.as_str())),
    }
}
