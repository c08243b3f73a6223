//! Scenarios as text: a config, the exact bytes of a request, what must come back, and what the trail must say.
//!
//! ```text
//! # What it shows.
//! config:
//!   upstreams: { app: { url: ${UPSTREAM} } }
//! request:
//!   GET /x HTTP/1.1
//!   Host: a
//! expect: 404
//!   content-type: application/json; charset=utf-8
//!   x-request-id: *
//!   set-cookie: -
//!   ~ ERR_ROUTE_NOT_FOUND
//! trail: route ERR_ROUTE_NOT_FOUND
//! ```
//!
//! `*` is any value, `-` none, `~ TEXT` stands in the body. `config` holds for all requests that follow; `times: N` sends
//! the next request N times. Line ends become CRLF; `\r`, `\n`, `\t`, `\0`, `\xHH` and `\\` are bytes; `repeat(TEXT,N)`
//! is TEXT, N times. A request without a body line ends after its fields.
//!
//! Invariant: a scenario without an expectation is an error, so that none passes by saying nothing.

/// One request and what must come of it.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// The line its request stands on.
    pub line: usize,
    /// The exact bytes.
    pub request: Vec<u8>,
    /// How often it is sent; the last answer is held against the expectation.
    pub times: usize,
    /// The status.
    pub status: u16,
    /// Field names with what they must be.
    pub fields: Vec<(String, String)>,
    /// Texts that stand in the body.
    pub body: Vec<String>,
    /// Guard and code of the refusal in the access log.
    pub trail: Option<(String, String)>,
}

/// A scenario file.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// The gateway's config.
    pub config: String,
    /// Its exchanges, in order.
    pub exchanges: Vec<Exchange>,
}

/// Reads a scenario.
///
/// # Errors
/// What is wrong with it, with the line.
pub fn parse(text: &str) -> Result<Scenario, String> {
    let mut scenario = Scenario::default();
    let mut section = "";
    let mut times = 1;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let indented = line.strip_prefix("  ");
        if line.starts_with('#') || (line.trim().is_empty() && section != "request") {
            continue;
        }
        let last = scenario.exchanges.last_mut();
        if line.trim().is_empty() {
            if let Some(exchange) = last {
                exchange.request.extend_from_slice(b"\r\n");
            }
            continue;
        }
        match (indented, section, last) {
            (Some(inside), "config", _) => scenario.config.push_str(&format!("{inside}\n")),
            (Some(inside), "request", Some(exchange)) => {
                exchange.request.extend(bytes_of(inside).map_err(|what| format!("line {number}: {what}"))?);
                exchange.request.extend_from_slice(b"\r\n");
            }
            (Some(inside), "expect", Some(exchange)) => match (inside.strip_prefix("~ "), inside.split_once(':')) {
                (Some(part), _) => exchange.body.push(part.to_owned()),
                (None, Some((name, value))) => exchange.fields.push((name.to_lowercase(), value.trim().to_owned())),
                _ => return Err(format!("line {number}: `{inside}` is neither `name: value` nor `~ text`")),
            },
            (None, _, last) => {
                let (key, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.trim();
                match (key, last) {
                    ("config", _) => section = "config",
                    ("times", _) => {
                        times = value.parse().map_err(|_| format!("line {number}: `{value}` is no number"))?
                    }
                    ("request", _) => {
                        let exchange =
                            Exchange { line: number, times: std::mem::replace(&mut times, 1), ..Exchange::default() };
                        scenario.exchanges.push(exchange);
                        section = "request";
                    }
                    ("expect", Some(exchange)) => {
                        exchange.status =
                            value.parse().map_err(|_| format!("line {number}: `{value}` is no status"))?;
                        section = "expect";
                    }
                    ("trail", Some(exchange)) => {
                        let (guard, code) = value.split_once(' ').ok_or(format!("line {number}: `guard CODE`"))?;
                        exchange.trail = Some((guard.to_owned(), code.to_owned()));
                    }
                    ("", _) => {}
                    _ => return Err(format!("line {number}: `{key}` is no section")),
                }
            }
            _ => return Err(format!("line {number}: stands in no section")),
        }
    }
    for exchange in &mut scenario.exchanges {
        finish(&mut exchange.request);
        if exchange.status == 0 {
            return Err(format!("line {}: nothing is expected of this request", exchange.line));
        }
    }
    if scenario.exchanges.is_empty() { Err("no request".to_owned()) } else { Ok(scenario) }
}

/// A head without an empty line gets one; after a body the last line end is not part of it.
fn finish(request: &mut Vec<u8>) {
    let has_body = request.windows(4).position(|window| window == b"\r\n\r\n").is_some_and(|at| at + 4 < request.len());
    if has_body {
        request.truncate(request.len() - 2);
    } else if !request.ends_with(b"\r\n\r\n") {
        request.extend_from_slice(b"\r\n");
    }
}

fn bytes_of(line: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some(next) = rest.chars().next() {
        if let Some(inside) = rest.strip_prefix("repeat(") {
            let (inside, after) = inside.split_once(')').ok_or("repeat( without )")?;
            let (text, count) = inside.rsplit_once(',').ok_or("repeat(TEXT,N)")?;
            let count: usize = count.trim().parse().map_err(|_| "repeat(TEXT,N): N is a number")?;
            bytes.extend(bytes_of(text)?.repeat(count));
            rest = after;
        } else if next == '\\' {
            let kind = rest.get(1..2).ok_or("a backslash at the end")?;
            let mut used = 2;
            bytes.push(match kind {
                "r" => b'\r',
                "n" => b'\n',
                "t" => b'\t',
                "0" => 0,
                "\\" => b'\\',
                "x" => {
                    used = 4;
                    let digits = rest.get(2..4).ok_or("\\x needs two digits")?;
                    u8::from_str_radix(digits, 16).map_err(|_| "\\x needs two hex digits")?
                }
                other => return Err(format!("\\{other} is no byte")),
            });
            rest = &rest[used..];
        } else {
            bytes.extend_from_slice(next.to_string().as_bytes());
            rest = &rest[next.len_utf8()..];
        }
    }
    Ok(bytes)
}

/// Holds an answer against what was expected of it.
///
/// # Errors
/// Every difference.
pub fn compare(exchange: &Exchange, response: &crate::client::Response) -> Result<(), String> {
    let mut differences = Vec::new();
    if response.status != exchange.status {
        differences.push(format!("status {} instead of {}", response.status, exchange.status));
    }
    for (name, expected) in &exchange.fields {
        let present = response.field(name);
        let is_right = match expected.as_str() {
            "*" => present.is_some(),
            "-" => present.is_none(),
            _ => present == Some(expected),
        };
        if !is_right {
            differences.push(format!("{name} is {present:?}, not {expected:?}"));
        }
    }
    for part in &exchange.body {
        if !response.text().contains(part.as_str()) {
            differences.push(format!("the body has no {part:?}: {}", response.text()));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(format!("line {}: {}", exchange.line, differences.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_scenario_becomes_exact_bytes() {
        let text = "# A comment.\nconfig:\n  a: 1\n  b:\n    c: 2\ntimes: 3\nrequest:\n  GET /repeat(ab,2)\\x00 HTTP/1.1\n  Host: a\nexpect: 404\n  x-a: *\n  ~ ERR\ntrail: route ERR_X\nrequest:\n  POST / HTTP/1.1\n\n  hi\nexpect: 200\n";
        let scenario = parse(text).expect("it is right");
        assert_eq!(scenario.config, "a: 1\nb:\n  c: 2\n");
        let [first, second] = scenario.exchanges.as_slice() else { panic!("two requests") };
        assert_eq!(first.request, b"GET /abab\x00 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((first.times, first.status, second.times), (3, 404, 1));
        assert_eq!(first.trail, Some(("route".to_owned(), "ERR_X".to_owned())));
        assert_eq!(second.request, b"POST / HTTP/1.1\r\n\r\nhi");
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for wrong in ["", "request:\n  GET / HTTP/1.1\n", "expect: 200\n", "request:\n  G\nexpect: many\n", "what: 1\n"]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
