//! The one request every generator sends.
//!
//! It looks like an ordinary API client's: five fields and a query, nothing that a proxy may answer by itself.

/// Path that makes the upstream answer with the request head it received, as `text/plain`.
pub(crate) const ECHO_PATH: &str = "/bench/echo";

/// The path of the load, with a query so that proxies have to tell the two apart.
pub(crate) const LOAD_PATH: &str = "/api/items/42?page=2";

/// Renders a GET of `path` for `target` (`address:port`).
pub(crate) fn render(target: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: bench-tools/1\r\n\
         Accept: application/json\r\nAccept-Encoding: gzip, br\r\nAccept-Language: en\r\n\r\n"
    )
    .into_bytes()
}
