//! An independent reader of HTTP/1.1 requests, as strict as RFC 9112: what a test holds an upstream's bytes against.
//!
//! It shares no code with the gateway or its parser, so that the two cannot be wrong together. [`read`] takes one request
//! off the front of the bytes; [`Request::canonical`] says what about it more than one reader could understand.
//!
//! Invariant: what it does not understand exactly it refuses; it never guesses where a request ends.

/// One request as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The target, as it was written.
    pub target: String,
    /// `1` for HTTP/1.1, `0` for HTTP/1.0.
    pub minor: u8,
    /// Names as they were written, values without the space around them.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body, without chunk framing.
    pub body: Vec<u8>,
    /// Whether it came in chunks.
    pub is_chunked: bool,
    /// Whether a chunk had an extension.
    pub has_extensions: bool,
    /// Whether trailers followed the chunks.
    pub has_trailers: bool,
}

/// What is at the front of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A request, and how many bytes it took.
    Whole(Box<Request>, usize),
    /// The beginning of one.
    Partial,
    /// No request: why.
    Broken(&'static str),
}

/// Fields that concern one hop only (RFC 9110, section 7.6.1) and must not reach an upstream.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "proxy-authorization",
    "expect",
];

impl Request {
    /// All values of a field.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(present, _)| present.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
    }

    /// Holds it against the one form in which the gateway sends requests.
    ///
    /// # Errors
    /// What is not in that form.
    pub fn canonical(&self) -> Result<(), String> {
        let count = |name: &str| self.values(name).count();
        let wrong = |what: &str| Err(format!("{what}: {self:?}"));
        if self.minor != 1 {
            return wrong("not HTTP/1.1");
        }
        if !self.target.starts_with('/') {
            return wrong("the target is no path");
        }
        if count("host") != 1 {
            return wrong("not exactly one Host");
        }
        if count("content-length") + count("transfer-encoding") > 1 {
            return wrong("more than one framing");
        }
        if self.values("transfer-encoding").any(|value| value != b"chunked") {
            return wrong("a coding that is not exactly chunked");
        }
        if self.has_extensions || self.has_trailers {
            return wrong("chunk extensions or trailers");
        }
        if let Some(name) = HOP_BY_HOP.iter().find(|name| count(name) > 0) {
            return wrong(name);
        }
        if self.fields.iter().any(|(name, _)| is_twin(name)) {
            return wrong("a twin of a framing field");
        }
        for name in ["x-forwarded-for", "x-forwarded-proto", "forwarded", "x-request-id"] {
            if count(name) != 1 {
                return wrong(name);
            }
        }
        Ok(())
    }
}

fn is_twin(name: &str) -> bool {
    let folded: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    matches!(folded.as_str(), "content-length" | "transfer-encoding")
        && name.contains(|c: char| c != '-' && !c.is_ascii_alphanumeric())
}

/// Reads one request off the front.
#[must_use]
pub fn read(bytes: &[u8]) -> Read {
    let mut rest = bytes;
    let mut request = match head(&mut rest) {
        Ok(request) => request,
        Err(stop) => return stop,
    };
    let lengths: Vec<&[u8]> = request.values("content-length").collect();
    let codings: Vec<&[u8]> = request.values("transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => {}
        ([length], []) => {
            let Some(length) = decimal(length) else { return Read::Broken("a length that is no plain decimal") };
            let Some(body) = rest.get(..length) else { return Read::Partial };
            request.body = body.to_vec();
            rest = &rest[length..];
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && request.minor == 1 => {
            request.is_chunked = true;
            if let Err(stop) = chunks(&mut rest, &mut request) {
                return stop;
            }
        }
        _ => return Read::Broken("framing that can be read in two ways"),
    }
    Read::Whole(Box::new(request), bytes.len() - rest.len())
}

fn decimal(digits: &[u8]) -> Option<usize> {
    let is_plain =
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || digits[0] != b'0');
    is_plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// Takes a line that ends in CRLF and holds neither of the two.
fn line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Read> {
    let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else { return Err(Read::Partial) };
    if rest[end] == b'\n' {
        return Err(Read::Broken("a bare line feed"));
    }
    match rest.get(end + 1) {
        None => Err(Read::Partial),
        Some(b'\n') => {
            let line = &rest[..end];
            *rest = &rest[end + 2..];
            Ok(line)
        }
        Some(_) => Err(Read::Broken("a bare carriage return")),
    }
}

fn head(rest: &mut &[u8]) -> Result<Request, Read> {
    let first = line(rest)?;
    let mut words = first.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Read::Broken("a request line that is not three words"));
    };
    if method.is_empty() || !method.iter().all(|byte| is_token_byte(*byte)) {
        return Err(Read::Broken("a method that is no token"));
    }
    if target.is_empty() || !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Read::Broken("a target with bytes that no target has"));
    }
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ => return Err(Read::Broken("another version")),
    };
    let fields = fields(rest)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Request { method: text(method), target: text(target), minor, fields, ..Request::default() })
}

fn fields(rest: &mut &[u8]) -> Result<Vec<(String, Vec<u8>)>, Read> {
    let mut fields = Vec::new();
    loop {
        let line = line(rest)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Err(Read::Broken("no colon")) };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
            return Err(Read::Broken("a field name that is no token"));
        }
        if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7F) {
            return Err(Read::Broken("a control character in a field"));
        }
        fields.push((String::from_utf8_lossy(name).into_owned(), value.trim_ascii().to_vec()));
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9112, section 7.1, without the space that it allows around extensions for old senders' sake.
fn chunks(rest: &mut &[u8], request: &mut Request) -> Result<(), Read> {
    loop {
        let line = line(rest)?;
        let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        if digits == 0 || digits > 16 {
            return Err(Read::Broken("a chunk size that is no number"));
        }
        match line.get(digits) {
            None => {}
            Some(b';') => request.has_extensions = true,
            Some(_) => return Err(Read::Broken("something behind a chunk size")),
        }
        let size = line[..digits]
            .iter()
            .fold(0_u64, |size, digit| (size << 4) | u64::from(char::from(*digit).to_digit(16).expect("a hex digit")));
        if size == 0 {
            request.has_trailers = !fields(rest)?.is_empty();
            return Ok(());
        }
        let Some(data) = usize::try_from(size).ok().and_then(|size| rest.get(..size)) else {
            return Err(Read::Partial);
        };
        request.body.extend_from_slice(data);
        *rest = &rest[data.len()..];
        match rest {
            [b'\r', b'\n', after @ ..] => *rest = after,
            [] | [b'\r'] => return Err(Read::Partial),
            _ => return Err(Read::Broken("a chunk longer than its size")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Read, read};

    fn whole(bytes: &[u8]) -> super::Request {
        match read(bytes) {
            Read::Whole(request, length) if length == bytes.len() => *request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_are_read_to_their_last_byte() {
        let plain = whole(b"POST /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!((plain.method.as_str(), plain.target.as_str(), &plain.body[..]), ("POST", "/x?y", &b"hi"[..]));
        let chunked =
            whole(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=1\r\nhi\r\n0\r\nA: b\r\n\r\n");
        assert!(chunked.is_chunked && chunked.has_extensions && chunked.has_trailers);
        let pipelined = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2";
        assert!(matches!(read(pipelined), Read::Whole(_, length) if length == pipelined.len() - 6));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_broken() {
        for wrong in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET /#x HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\nx",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n",
        ] {
            assert!(matches!(read(wrong.as_bytes()), Read::Broken(_)), "{wrong:?}: {:?}", read(wrong.as_bytes()));
        }
        for half in ["", "GET / HT", "GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nx"] {
            assert_eq!(read(half.as_bytes()), Read::Partial, "{half:?}");
        }
    }
}
