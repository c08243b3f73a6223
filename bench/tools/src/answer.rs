//! Reading answers: enough of HTTP/1.1 to tell a right one from a wrong one.
//!
//! Invariant: only answers framed by `Content-Length` are accepted. The upstream sends one, so a proxy that
//! re-frames the body does different work from the others and has to be noticed.
use anyhow::{Context, bail};

/// Most header fields in an answer; the fullest scenario sends about twenty.
const FIELDS_AT_MOST: usize = 64;

/// A complete answer at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Bytes of head, blank line included.
    pub(crate) head_bytes: usize,
    /// Bytes of body.
    pub(crate) body_bytes: usize,
}

impl Answer {
    /// Bytes of the whole answer.
    pub(crate) fn bytes(self) -> usize {
        self.head_bytes + self.body_bytes
    }
}

/// Reads one answer from the front of `buffer`; `None` while it is not complete.
///
/// # Errors
/// When the bytes are no HTTP/1.1 answer, or one without a valid `Content-Length`.
pub(crate) fn read(buffer: &[u8]) -> anyhow::Result<Option<Answer>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_AT_MOST];
    let mut head = httparse::Response::new(&mut fields);
    let head_bytes = match head.parse(buffer).context("reading an answer")? {
        httparse::Status::Complete(bytes) => bytes,
        httparse::Status::Partial => return Ok(None),
    };
    let status = head.code.context("an answer without a status")?;
    let Some(length) = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length")) else {
        bail!("an answer with status {status} and no Content-Length");
    };
    let length = std::str::from_utf8(length.value).context("a Content-Length that is no text")?;
    let body_bytes = length.trim().parse().with_context(|| format!("Content-Length {length:?}"))?;
    let answer = Answer { status, head_bytes, body_bytes };
    Ok((buffer.len() >= answer.bytes()).then_some(answer))
}

#[cfg(test)]
mod tests {
    use super::{Answer, read};

    #[test]
    fn an_answer_is_complete_only_with_its_whole_body() {
        let bytes = b"HTTP/1.1 429 Too Many Requests\r\ncontent-LENGTH: 5\r\n\r\nhello";
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]).unwrap(), None, "cut at {cut}");
        }
        let answer = read(bytes).unwrap();
        assert_eq!(answer, Some(Answer { status: 429, head_bytes: bytes.len() - 5, body_bytes: 5 }));
    }

    #[test]
    fn other_framing_and_rubbish_are_refused() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            b"not HTTP at all\r\n\r\n",
        ] {
            assert!(read(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
