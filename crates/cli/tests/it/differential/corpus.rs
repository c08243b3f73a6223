//! Hostile requests: the rows of docs/attacks.md in bytes, and variants of them. Each carries its own number in its path
//! and, wherever another reader might find a second request, one to `/smuggled`.

/// One connection's bytes.
pub(super) struct Case {
    /// The row of docs/attacks.md.
    pub(super) row: u8,
    /// Exactly what is sent.
    pub(super) bytes: Vec<u8>,
}

/// `{n}` in a text becomes the case's number.
#[derive(Default)]
pub(super) struct Cases(pub(super) Vec<Case>);

impl Cases {
    fn add(&mut self, row: u8, text: impl AsRef<[u8]>) {
        let number = self.0.len().to_string();
        let mut bytes = Vec::new();
        let mut rest = text.as_ref();
        while let Some(at) = rest.windows(3).position(|window| window == b"{n}") {
            bytes.extend_from_slice(&rest[..at]);
            bytes.extend_from_slice(number.as_bytes());
            rest = &rest[at + 3..];
        }
        bytes.extend_from_slice(rest);
        self.0.push(Case { row, bytes });
    }

    /// A request with these field lines, and what stands behind its head.
    fn head(&mut self, row: u8, first: &str, fields: &[u8], behind: &str) {
        self.add(row, [first.as_bytes(), b"\r\nHost: a\r\n", fields, b"\r\n", behind.as_bytes()].concat());
    }
}

const SMUGGLED: &str = "GET /c{n}/smuggled HTTP/1.1\r\nHost: a\r\nX: ";
const POST: &str = "POST /c{n}/x HTTP/1.1";

/// All of them.
pub(super) fn all() -> Vec<Case> {
    let mut cases = Cases::default();
    lengths(&mut cases);
    codings(&mut cases);
    chunks(&mut cases);
    lines(&mut cases);
    first_lines(&mut cases);
    meetings(&mut cases);
    cases.0
}

/// Rows 1 to 5, 10, 30.
fn lengths(cases: &mut Cases) {
    let zero_chunk = format!("0\r\n\r\n{SMUGGLED}");
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 100\r\ntransfer-encoding: CHUNKED\r\n",
        "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
    ] {
        cases.head(1, POST, fields.as_bytes(), &zero_chunk);
        cases.head(2, "GET /c{n}/x HTTP/1.1", fields.as_bytes(), &zero_chunk);
    }
    for (first, second) in [("0", "5"), ("5", "0"), ("5", "6"), ("5", "05"), ("5", "+5"), ("5", ""), ("5", "5 ")] {
        let fields = format!("Content-Length: {first}\r\nContent-Length: {second}\r\n");
        cases.head(3, POST, fields.as_bytes(), &format!("hello{SMUGGLED}"));
    }
    for value in [
        "5, 5",
        "5,6",
        "5;5",
        "5 5",
        "+5",
        "-0",
        "-5",
        "0x5",
        "5_0",
        "1_0",
        "",
        " ",
        "00",
        "0200",
        "5.0",
        "5e0",
        "\t5x",
        "18446744073709551617",
        "18446744073709551621",
        "9223372036854775808",
        "5\0",
        "5\x0b",
        "\x0c5",
        "\u{a0}5",
        "\u{665}",
    ] {
        cases.head(5, POST, format!("Content-Length: {value}\r\n").as_bytes(), &format!("hello{SMUGGLED}"));
        cases.head(5, "GET /c{n}/x HTTP/1.1", format!("Content-Length:{value}\r\n").as_bytes(), SMUGGLED);
    }
    for name in [
        "Content_Length",
        "Content.Length",
        "Content-Length ",
        " Content-Length",
        "Content-Length\t",
        "Content\0-Length",
    ] {
        cases.head(10, POST, format!("{name}: 50\r\n").as_bytes(), SMUGGLED);
        cases.head(10, POST, format!("Content-Length: 0\r\n{name}: 50\r\n").as_bytes(), "");
    }
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        let body = "GET /c{n}/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let first = format!("{method} /c{{n}}/x HTTP/1.1");
        cases.head(30, &first, b"Content-Length: 44\r\n", &format!("{body:0<47}"));
        cases.head(30, &first, b"Transfer-Encoding: chunked\r\n", &format!("2f\r\n{body:0<49}\r\n0\r\n\r\n"));
    }
}

/// Rows 6 to 10.
fn codings(cases: &mut Cases) {
    for value in [
        "xchunked",
        "identity",
        "gzip",
        "chunked;a=b",
        "chunked, chunked",
        "chunked, gzip",
        "gzip, chunked",
        "chunked, identity",
        "identity, chunked",
        "\x0bchunked",
        "chunked\x0b",
        "\x0cchunked",
        "chunked\x0c",
        "chunked\0",
        "\0chunked",
        ",chunked",
        "chunked,",
        ", chunked",
        "chunked ,",
        "\"chunked\"",
        "'chunked'",
        "chunked\t",
        "\tchunked",
        " chunked ",
        "chun ked",
        "Chunked",
        "CHUNKED",
        "chunke",
        "chunkedd",
        "chunked\u{85}",
        "\u{a0}chunked",
        "c\\hunked",
        "",
        "chunked\r\n chunked",
        "\r\n chunked",
        "chunked; q=0.5",
        "chunked/1",
        "x, y",
    ] {
        let fields = format!("Transfer-Encoding: {value}\r\n");
        cases.head(8, POST, fields.as_bytes(), &format!("0\r\n\r\n{SMUGGLED}"));
        let fields = format!("Transfer-Encoding: {value}\r\nContent-Length: 6\r\n");
        cases.head(6, POST, fields.as_bytes(), &format!("0\r\n\r\nX{SMUGGLED}"));
        let fields = format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: {value}\r\n");
        cases.head(7, POST, fields.as_bytes(), &format!("0\r\n\r\n{SMUGGLED}"));
    }
    for (name, value) in [
        ("Transfer_Encoding", "chunked"),
        ("Transfer.Encoding", "chunked"),
        ("Transfer-Encoding ", "chunked"),
        ("Transfer-Encoding\t", "chunked"),
        (" Transfer-Encoding", "chunked"),
        ("X: y\nTransfer-Encoding", "chunked"),
        ("X: y\rTransfer-Encoding", "chunked"),
        ("TransferEncoding", "chunked"),
        ("Transfer-Encoding\0", "chunked"),
    ] {
        let fields = format!("{name}: {value}\r\nContent-Length: 3\r\n");
        cases.head(10, POST, fields.as_bytes(), &format!("0\r\n\r\n{SMUGGLED}"));
    }
    cases
        .add(9, format!("POST /c{{n}}/x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"));
    cases.add(9, format!("POST /c{{n}}/x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n{SMUGGLED}"));
}

/// Rows 11 to 15.
fn chunks(cases: &mut Cases) {
    let fields = b"Transfer-Encoding: chunked\r\n";
    for size in [
        "+0",
        "-1",
        "-0",
        "0x0",
        "0x5",
        " 5",
        "5 ",
        "5\t",
        "\t5",
        "1_0",
        "",
        "5,",
        "5\0",
        "\x005",
        "5\x0b",
        "0000000000000000000005",
        "11111111111111111",
        "ffffffffffffffff",
        "10000000000000005",
        "g",
        "5h",
        "\u{665}",
        "5\r",
        "5\r\r",
        "5\n",
    ] {
        cases.head(11, POST, fields, &format!("{size}\r\nhello\r\n0\r\n\r\n{SMUGGLED}"));
        cases.head(11, POST, fields, &format!("5\r\nhello\r\n{size}\r\n\r\n{SMUGGLED}"));
    }
    for body in [
        "5\r\nhelloXX\r\n0\r\n\r\n",
        "5\r\nhel\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\rhello\r0\r\r",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\n\r\n",
        "5;\nhello\r\n0\r\n\r\n",
        "5;a\nX\r\nhello\r\n0\r\n\r\n",
        "5;a\rX\r\nhello\r\n0\r\n\r\n",
        "5;a\0b\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\r\nhello\r\n0\r\n\r\n",
        "5;\r\nhello\r\n0;\r\n\r\n",
        "5;a=b;c\r\nhello\r\n0\r\n\r\n",
        "5 ;a\r\nhello\r\n0\r\n\r\n",
    ] {
        cases.head(13, POST, fields, &format!("{body}{SMUGGLED}"));
    }
    cases.head(14, POST, fields, &format!("5;{}\r\nhello\r\n0\r\n\r\n{SMUGGLED}", "a".repeat(65_536)));
    for trailer in [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Host: evil",
        "Authorization: Basic eA==",
        "X-Forwarded-For: 9.9.9.9",
        "X-Portcullis-User: admin",
        "no colon",
        " folded",
        "A: b\n",
        "A: b\r",
        ": empty",
        "A\0: b",
        "A: \0",
    ] {
        cases.head(15, POST, fields, &format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n"));
    }
}

/// Rows 16 to 20, 29, 36, 37.
fn lines(cases: &mut Cases) {
    const GET: &str = "GET /c{n}/x HTTP/1.1";
    for line in [
        "X: a\r\n b",
        "X: a\r\n\tb",
        "X : a",
        "X\t: a",
        " X: a",
        "\tX: a",
        ": a",
        "no colon",
        "X\0: a",
        "X: a\0b",
        "X: a\rb",
        "X: a\nb",
        "X: a\r\r",
        "X(y): a",
        "X y: a",
        "X\u{e9}: a",
        "X\x7f: a",
        "X: \x7f",
        "X: \u{e9}",
        "\"X\": a",
        "X@y: a",
        "X[]: a",
        "{}: a",
        "\\: a",
    ] {
        cases.head(17, GET, format!("{line}\r\n").as_bytes(), "");
        cases.add(17, format!("{GET}\r\n{line}\r\nHost: a\r\n\r\n"));
    }
    for byte in (0_u8..=8).chain([0x0b, 0x0c]).chain(0x0e..=0x1f).chain([0x7f, 0x80, 0xff]) {
        cases.head(18, GET, &[b"X: a", &[byte][..], b"b\r\n"].concat(), "");
        cases.head(19, GET, &[b"X", &[byte][..], b"y: a\r\n"].concat(), "");
        cases.head(18, GET, &[b"X: a\r\nHost", &[byte][..], b": b\r\n"].concat(), "");
    }
    cases.add(20, "GET /c{n}/x HTTP/1.1\nHost: a\nX: b\n\n");
    cases.add(20, "POST /c{n}/x HTTP/1.1\nHost: a\nContent-Length: 2\n\nhi");
    cases.add(20, "POST /c{n}/x HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n2\r\nhi\r\n0\r\n\r\n");
    cases.add(20, format!("GET /c{{n}}/x HTTP/1.1\rHost: a\r\r{SMUGGLED}"));
    cases.head(29, GET, format!("X: {}\r\n", "a".repeat(100_000)).as_bytes(), "");
    cases.head(29, GET, "X: y\r\n".repeat(500).as_bytes(), "");
    for nominated in [
        "X-Forwarded-For",
        "X-Request-Id",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "close, Forwarded",
        "\0",
        ",,,",
    ] {
        let fields = format!(
            "Connection: {nominated}\r\nX-Forwarded-For: 9.9.9.9\r\nX-Request-Id: mine\r\nContent-Length: 2\r\n"
        );
        cases.head(36, POST, fields.as_bytes(), "hi");
    }
    for line in [
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Trailer: X",
        "Proxy-Authorization: Basic eA==",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        "Upgrade: websocket",
        "Upgrade: TLS/1.0\r\nConnection: upgrade",
        "Expect: 100-continue",
        "Expect: magic",
        "Connection: close\r\nConnection: keep-alive",
    ] {
        cases.head(37, GET, format!("{line}\r\n").as_bytes(), "");
    }
}

/// Rows 21 to 28 and 59.
fn first_lines(cases: &mut Cases) {
    for first in [
        "get /c{n}/x HTTP/1.1",
        "G\x01T /c{n}/x HTTP/1.1",
        "GET\t/c{n}/x\tHTTP/1.1",
        "GET  /c{n}/x HTTP/1.1",
        "GET /c{n}/x  HTTP/1.1",
        " GET /c{n}/x HTTP/1.1",
        "GET /c{n}/x HTTP/1.1 ",
        "GET /c{n}/x HTTP/1.1\0",
        "GET /c{n}/x",
        "GET /c{n}/x HTTP/0.9",
        "GET /c{n}/x HTTP/1.32",
        "GET /c{n}/x HTTP/01.01",
        "GET /c{n}/x http/1.1",
        "GET /c{n}/x HTTP/2.0",
        "GET /c{n}/x HTTP/1.1.1",
        "GET /c{n}/x HTTP /1.1",
        "GET /c{n}/x XTTP/1.1",
        "GET HTTP/1.1",
        "GET c{n}/x HTTP/1.1",
        "GET * HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "CONNECT a:443 HTTP/1.1",
        "CONNECT /c{n}/x HTTP/1.1",
        "TRACE /c{n}/x HTTP/1.1",
        "GET http:///c{n}/x HTTP/1.1",
        "GET //c{n}/x HTTP/1.1",
        "GET http://b/c{n}/x HTTP/1.1",
        "GET http://a@b/c{n}/x HTTP/1.1",
        "GET http://b:99999/c{n}/x HTTP/1.1",
        "GET http://b/c{n}/x#y HTTP/1.1",
        "GET /c{n}/x#y HTTP/1.1",
        "GET /c{n}/x?a#b HTTP/1.1",
        "GET # HTTP/1.1",
        "GET /c{n}/x y HTTP/1.1",
        "GET /c{n}/\u{e9} HTTP/1.1",
        "GET /c{n}/x\0y HTTP/1.1",
        "GET /c{n}/\"<>^`{|} HTTP/1.1",
        "GET /c{n}/x?q=\"<> HTTP/1.1",
        "GET ftp://b/c{n}/x HTTP/1.1",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n",
        "GET /c{n}/x HTTP/1.1\r\nGET /c{n}/smuggled HTTP/1.1",
        "SEARCH /c{n}/x HTTP/1.1",
        "\u{feff}GET /c{n}/x HTTP/1.1",
    ] {
        cases.head(26, first, b"", "");
    }
    for host in [
        "",
        " ",
        "a,b",
        "user@h",
        "h/path",
        "h:99999",
        "h:",
        "h:x",
        "[::1",
        "::1",
        "a b",
        "a\0",
        "a\tb",
        "a?b",
        "a#b",
        "a%00",
        "a\\b",
        "\u{e9}",
        "a\r\nHost: a",
        "a\r\nhost: b",
        "a\r\nHost:",
        "a;b",
        "<a>",
        "-",
        "..",
        "a..b",
        "256.256.256.256",
        "[::1]:80x",
        "0x7f.1",
    ] {
        cases.add(24, format!("GET /c{{n}}/x HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    cases.add(24, "GET /c{n}/x HTTP/1.1\r\n\r\n");
    cases.add(24, "GET /c{n}/x HTTP/1.0\r\n\r\n");
    cases.add(28, format!("GET /c{{n}}/{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(7_990)));
    cases.add(28, format!("GET /c{{n}}/{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(102_400)));
    cases.add(21, format!("{} /c{{n}}/x HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(102_400)));
}

/// Rows 12, 31, 40, 41: what needs more than a head.
fn meetings(cases: &mut Cases) {
    let good = "GET /c{n}/x HTTP/1.1\r\nHost: a\r\n\r\n";
    cases.add(40, format!("{good}BROKEN\r\n\r\n{SMUGGLED}a\r\n\r\n"));
    cases.add(40, format!("\r\n\r\n{good}"));
    cases.add(
        31,
        format!("{POST}\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3000000\r\n\r\n{SMUGGLED}a\r\n\r\n"),
    );
    cases.add(31, format!("{POST}\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 60\r\n\r\n{SMUGGLED}a\r\n\r\n"));
    cases.add(12, format!("{POST}\r\nHost: a\r\nContent-Length: 500\r\n\r\n{SMUGGLED}a\r\n\r\n"));
    cases.add(12, format!("{POST}\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1ff\r\n{SMUGGLED}a\r\n\r\n"));
    cases.add(41, "");
    cases.add(41, "GET /c{n}/x HTTP/1.1\r\nHost: a\r\n");
    cases.add(41, "\r\n");
    cases.add(41, "\0");
}
