//! What passes as it came, what is spoilt, and that pieces make no difference.

use super::{Bytes, Place, Reader};

/// What the parser gets to see, the bytes coming in pieces of every size.
fn seen(text: &str) -> String {
    let whole = in_pieces(text, text.len());
    for size in 1..text.len() {
        assert_eq!(in_pieces(text, size), whole, "in pieces of {size}");
    }
    whole
}

fn in_pieces(text: &str, size: usize) -> String {
    let mut reader = Reader::default();
    let mut bytes = text.as_bytes().to_vec();
    bytes.chunks_mut(size).for_each(|piece| reader.follow(piece));
    String::from_utf8(bytes).expect("only ASCII is put in")
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn what_is_well_formed_passes_as_it_came() {
    for text in [
        "GET /a?b",
        "GET / HTTP/1.1\r\nHost: a\r\nCookie: #x\r\n\r\n",
        "\r\n\nGET / HTTP/1.1\nHost: a\n\nGET /2 HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-LENGTH:  3 \r\nContent-Length: 3\r\n\r\nA #\nGET / HTTP/1.1\r\n\r\n",
        "G#T / HTTP/1.1\r\nTransfer-Encodings: x\r\nContent-Type: a\r\nTe: x\r\nC\r\nT:\r\n\r\n",
    ] {
        assert_eq!(seen(text), text);
    }
    for body in ["2\r\n #\r\n00a;x=\" \"\r\n0123456789\r\n0\r\nX: y #\r\n\r\nGET / HTTP/1.1\r\n\r\n", "0;\r\n\r\n"] {
        let text = format!("{CHUNKED}{body}");
        assert_eq!(seen(&text), text);
    }
}

#[test]
fn row_59_a_fragment_is_spoilt_wherever_the_request_stands() {
    assert_eq!(seen("GET /a#b HTTP/1.1\r\n\r\n"), "GET /a\0b HTTP/1.1\r\n\r\n");
    let second = "GET /a#b HTTP/1.1\r\n\r\n";
    for first in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345".to_owned(),
        format!("{CHUNKED}5;a\r\n12345\r\n0\r\nA: b\r\n\r\n"),
        "\r\n".to_owned(),
    ] {
        assert_eq!(seen(&format!("{first}{second}")), format!("{first}{}", second.replace('#', "\0")));
    }
}

#[test]
fn rows_11_and_13_space_behind_a_size_and_bare_line_ends_are_spoilt() {
    for (body, spoilt) in [
        ("5 \r\n", "5\0\r\n"),
        ("5\t;a\r\n", "5\0;a\r\n"),
        (" 5\r\n", "\x005\r\n"),
        ("\r\n", "\0\n"),
        ("11111111111111111\r\n", "1111111111111111\0\r\n"),
        ("5\n", "5\0"),
        ("5\rx", "5\r\0"),
        ("1\r\nx\n", "1\r\nx\0"),
        ("1\r\nx\ry", "1\r\nx\r\0"),
        ("0\r\n\n", "0\r\n\r"),
        ("0\r\nA: b\n\r\n", "0\r\nA: b\r\0\n"),
        ("0\r\nA: b\n\n", "0\r\nA: b\r\0"),
        ("0\r\nA: b\rc", "0\r\nA: b\r\0"),
    ] {
        assert_eq!(seen(&format!("{CHUNKED}{body}")), format!("{CHUNKED}{spoilt}"), "{body:?}");
    }
}

#[test]
fn where_it_cannot_follow_it_spoils() {
    for line in ["A: b\r\n c", "\rx", "Content-Length: +5", "Content-Length: 5, 5", "Content-Length: 5 5"]
        .into_iter()
        .chain(["Content-Length: 18446744073709551616", "Content-Length : 5", "Transfer-Encoding\t: chunked"])
    {
        assert!(seen(&format!("GET / HTTP/1.1\r\n{line}\r\n")).contains('\0'), "{line:?}");
    }
}

#[test]
fn a_head_without_a_sure_end_keeps_its_line_ends_and_nothing_is_left_behind_it() {
    for head in ["GET /\r\nA: b", "GET\r\nA: b", "GET / HTTP/1.1\r\nContent-Length:", "GET /\r"]
        .into_iter()
        .chain(["GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6"])
    {
        let behind = "GET /2 HTTP/1.1\r\n";
        let expected = format!("{head}\r\n\r\n{}", "\0".repeat(behind.len()));
        assert_eq!(seen(&format!("{head}\r\n\r\n{behind}")), expected);
    }
}

#[test]
fn what_was_read_ahead_of_a_switch_is_given_back_as_it_came() {
    let mut reader = Reader::default();
    let mut bytes = b"GET / HTTP/1.1\r\n\r\nfoo a#b c#d".to_vec();
    reader.follow(&mut bytes);
    assert_eq!((reader.place, &bytes[18..]), (Place::Spoilt, &b"foo a\0b c#d"[..]));
    let unread = Bytes::copy_from_slice(&bytes[20..]);
    assert_eq!(reader.as_it_came(unread), &b"o a#b c#d"[..]);
    assert_eq!(reader.as_it_came(Bytes::from_static(b"c#d")), &b"c#d"[..]);
}
