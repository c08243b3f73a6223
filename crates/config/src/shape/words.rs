//! Shapes in words: what a message expects, what the reference lists.
//!
//! Invariant: one wording per kind, used by mistakes, reference and example alike.

use super::{Integer, Kind, List, Number, Shape, Shapes, Text};
use crate::nearest::listed;

impl Shapes {
    /// What a value should be, for a message: `a whole number from 1 to 10`.
    pub(crate) fn expected(&self, shape: &Shape) -> String {
        let resolved = self.resolve(shape);
        match &resolved.kind {
            Kind::Any => "any value".to_owned(),
            Kind::Null => "nothing".to_owned(),
            Kind::Bool => "`true` or `false`".to_owned(),
            Kind::Integer(integer) => with("a whole number", integer.bounds()),
            Kind::Number(number) => with("a number", number.bounds()),
            Kind::Text(text) => with(text.name_with_article(), text.bounds()),
            Kind::Choice(choices) if choices.len() == 1 => format!("`{}`", choices[0].value),
            Kind::Choice(choices) => format!("one of {}", listed(choices.iter().map(|choice| choice.value.as_str()))),
            Kind::List(_) => "a list".to_owned(),
            Kind::Object(_) => "a mapping".to_owned(),
            Kind::Union(_) => self.expected_of_any(self.alternatives(resolved)),
            // `resolve` leaves no name.
            Kind::Named(name) => name.clone(),
        }
    }

    /// What a value that may have one of several shapes should be.
    pub(crate) fn expected_of_any<'a>(&self, shapes: impl IntoIterator<Item = &'a Shape>) -> String {
        let mut words: Vec<String> = Vec::new();
        for word in shapes.into_iter().map(|shape| self.expected(shape)) {
            if !words.contains(&word) {
                words.push(word);
            }
        }
        words.join(" or ")
    }

    /// The type of a value, for a table: `list of duration`.
    pub(crate) fn type_name(&self, shape: &Shape) -> String {
        let resolved = self.resolve(shape);
        match &resolved.kind {
            Kind::Any => "any".to_owned(),
            Kind::Null => "nothing".to_owned(),
            Kind::Bool => "bool".to_owned(),
            Kind::Integer(_) => "whole number".to_owned(),
            Kind::Number(_) => "number".to_owned(),
            Kind::Text(text) => text.name().to_owned(),
            Kind::Choice(choices) => {
                listed(choices.iter().map(|choice| choice.value.as_str())).replace("`, `", "` \\| `")
            }
            Kind::List(list) if list.first.is_empty() => format!("list of {}", self.type_name(&list.item)),
            Kind::List(list) => {
                let items: Vec<_> = list.first.iter().map(|item| self.type_name(item)).collect();
                format!("list of [{}]", items.join(", "))
            }
            Kind::Object(object) => match &object.others {
                Some(other) if object.fields.is_empty() => format!("mapping of name to {}", self.type_name(other)),
                _ => "mapping".to_owned(),
            },
            Kind::Union(_) => {
                let mut names: Vec<_> = self.alternatives(resolved).iter().map(|shape| self.type_name(shape)).collect();
                names.dedup();
                names.join(" or ")
            }
            Kind::Named(name) => name.clone(),
        }
    }

    /// The bounds of a value, for a table: `1 to 10`; empty where there are none worth saying.
    pub(crate) fn bounds(&self, shape: &Shape) -> String {
        match &self.resolve(shape).kind {
            Kind::Integer(integer) => integer.bounds(),
            Kind::Number(number) => number.bounds(),
            Kind::Text(text) => text.bounds(),
            Kind::List(list) => list.bounds(),
            _ => String::new(),
        }
    }
}

/// A kind within its bounds: `a number from 1 to 5`, `a number of at least 1`, `text of 1 to 8 characters`.
fn with(name: &str, bounds: String) -> String {
    match bounds.as_str() {
        "" => name.to_owned(),
        _ if bounds.ends_with(|c: char| c.is_ascii_digit()) && !bounds.starts_with(char::is_alphabetic) => {
            format!("{name} from {bounds}")
        }
        _ => format!("{name} of {bounds}"),
    }
}

impl Integer {
    pub(crate) fn bounds(&self) -> String {
        // Bounds of 32 and 64 bits are those of the machine, not the operator's concern.
        let from_below = self.min > i128::from(i32::MIN);
        let from_above = self.max < i128::from(i32::MAX);
        match (from_below, from_above) {
            (true, true) => format!("{} to {}", self.min, self.max),
            (true, false) if self.min == 0 => String::new(),
            (true, false) => format!("at least {}", self.min),
            (false, true) => format!("at most {}", self.max),
            (false, false) => String::new(),
        }
    }

    /// The bounds for a message about a number beyond them: never empty.
    pub(crate) fn range(&self) -> String {
        match self.bounds() {
            bounds if bounds.is_empty() => format!("{} to {}", self.min, self.max),
            bounds => bounds,
        }
    }
}

impl Number {
    pub(crate) fn bounds(&self) -> String {
        if let (Some(min), Some(max)) = (self.min, self.max) {
            return format!("{min} to {max}");
        }
        let parts = [
            self.min.map(|min| format!("at least {min}")),
            self.above.map(|above| format!("more than {above}")),
            self.max.map(|max| format!("at most {max}")),
            self.below.map(|below| format!("less than {below}")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }

    pub(crate) fn admits(&self, number: f64) -> bool {
        self.min.is_none_or(|min| number >= min)
            && self.max.is_none_or(|max| number <= max)
            && self.above.is_none_or(|above| number > above)
            && self.below.is_none_or(|below| number < below)
    }
}

impl Text {
    pub(crate) fn bounds(&self) -> String {
        counted(self.min_length, self.max_length, "character")
    }

    fn name_with_article(&self) -> &'static str {
        match self.format.as_deref() {
            Some("duration") => "a duration such as `30s`",
            Some("byte-size") => "a size such as `10MiB`",
            Some("rate") => "a rate such as `200/10s`",
            Some("cidr") => "an IP address or a network such as `10.0.0.0/8`",
            Some("uri") => "a URL",
            _ => "text",
        }
    }

    fn name(&self) -> &'static str {
        match self.format.as_deref() {
            Some("duration") => "duration",
            Some("byte-size") => "size",
            Some("rate") => "rate",
            Some("cidr") => "network",
            Some("secret") => "secret text",
            Some("uri") => "URL",
            _ => "text",
        }
    }
}

impl List {
    pub(crate) fn count_bounds(&self) -> String {
        counted(self.min_items, self.max_items, "item")
    }

    pub(crate) fn bounds(&self) -> String {
        let count = self.count_bounds();
        match (count.is_empty(), self.is_unique) {
            (_, false) => count,
            (true, true) => "each once".to_owned(),
            (false, true) => format!("{count}, each once"),
        }
    }
}

fn counted(min: Option<u64>, max: Option<u64>, unit: &str) -> String {
    let plural = |count: u64| if count == 1 { unit.to_owned() } else { format!("{unit}s") };
    match (min.filter(|min| *min > 0), max) {
        (None, None) => String::new(),
        (Some(min), Some(max)) if min == max => format!("exactly {min} {}", plural(min)),
        (Some(min), Some(max)) => format!("{min} to {max} {}", plural(max)),
        (Some(min), None) => format!("at least {min} {}", plural(min)),
        (None, Some(max)) => format!("at most {max} {}", plural(max)),
    }
}
