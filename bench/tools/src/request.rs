//! The one request every generator sends.
//!
//! It looks like an ordinary API client's: five fields and a query, nothing that a proxy may answer by itself.

use std::path::Path;

use anyhow::{Context, ensure};

/// Path that makes the upstream answer with the request head it received, as `text/plain`.
pub(crate) const ECHO_PATH: &str = "/bench/echo";

/// The path of the load, with a query so that proxies have to tell the two apart.
pub(crate) const LOAD_PATH: &str = "/api/items/42?page=2";

/// Fields of every request beside `Host`.
pub(crate) const FIELDS: [(&str, &str); 4] = [
    ("User-Agent", "bench-tools/1"),
    ("Accept", "application/json"),
    ("Accept-Encoding", "gzip, br"),
    ("Accept-Language", "en"),
];

/// A step through the routes that visits every one before it comes back to the first, and none beside the last.
const STRIDE: u32 = 7919;

/// The paths of a load over many routes: one below each of `/s0`, `/s1` and so on, in scattered order.
pub(crate) fn scattered(routes: u32) -> Vec<String> {
    let place = |number: u32| u64::from(number) * u64::from(STRIDE) % u64::from(routes);
    (0..routes).map(|number| format!("/s{}/items/42?page=2", place(number))).collect()
}

/// Renders a GET of `path` for `target` (`address:port`).
pub(crate) fn render(target: &str, path: &str) -> Vec<u8> {
    let mut text = format!("GET {path} HTTP/1.1\r\nHost: {target}\r\n");
    for (name, value) in FIELDS {
        text.extend([name, ": ", value, "\r\n"]);
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// A request of the usual path for each line of `file`, with that line as its token.
///
/// # Errors
/// When the file cannot be read, or has no line.
pub(crate) fn with_tokens(target: &str, file: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let plain = render(target, LOAD_PATH);
    let head = plain.strip_suffix(b"\r\n").context("a request without its end")?;
    let requests: Vec<Vec<u8>> =
        text.lines().map(|token| [head, b"Authorization: Bearer ", token.as_bytes(), b"\r\n\r\n"].concat()).collect();
    ensure!(!requests.is_empty(), "{} has no tokens", file.display());
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::scattered;

    #[test]
    fn every_route_has_one_path() {
        for routes in [1, 9, 9_999] {
            let mut paths = scattered(routes);
            assert!(routes < 3 || paths[1] != "/s1/items/42?page=2", "in order");
            paths.sort_unstable();
            paths.dedup();
            assert_eq!(paths.len(), routes as usize);
        }
    }
}
