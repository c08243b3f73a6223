//! One request and its whole answer, asked by curl: how a candidate shows that it does the work it is timed for.
//!
//! curl and not the load's own client, so that what the two agree on is seen from a third side as well.
//!
//! Invariant: the certificate is verified, and the protocol that was agreed on is part of what is reported.
use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, bail};

use super::candidate::Running;
use super::scenario::{Scenario, Traffic};

/// The path that the upstream answers with the request as it arrived.
const ECHO_PATH: &str = "/bench/echo";

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Status code.
    pub(crate) status: u16,
    /// `1.1` or `2`.
    version: String,
    /// Header fields by lower-case name.
    pub(crate) fields: BTreeMap<String, String>,
    /// The head as the upstream saw it, where it was asked.
    pub(crate) body: String,
}

/// Asks once.
///
/// # Errors
/// When there is no answer, the certificate is wrong, or the protocol is not the scenario's.
pub(crate) fn probe(scenario: Scenario, running: &Running) -> anyhow::Result<Probe> {
    let (scheme, option, version) = match scenario.traffic() {
        Traffic::Plain => ("http", "--http1.1", "1.1"),
        Traffic::Tls | Traffic::Handshakes => ("https", "--http1.1", "1.1"),
        Traffic::Http2 => ("https", "--http2", "2"),
    };
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--max-time", "5", "--noproxy", "*", option]);
    if scheme == "https" {
        command.args(["--tlsv1.3", "--cacert"]).arg(&running.certificate);
    }
    if let Some(tokens) = &running.tokens {
        let tokens = std::fs::read_to_string(tokens).context("reading the tokens")?;
        let token = tokens.lines().next().context("no token")?;
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    let output = command.arg(format!("{scheme}://{}{ECHO_PATH}", running.listen)).output().context("starting curl")?;
    if !output.status.success() {
        bail!("curl: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let probe = read(&String::from_utf8_lossy(&output.stdout))?;
    if probe.version != version {
        bail!("the answer came by HTTP/{}, not by HTTP/{version}", probe.version);
    }
    Ok(probe)
}

fn read(text: &str) -> anyhow::Result<Probe> {
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without an end of its head")?;
    let (first, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut words = first.split(' ');
    let version = words.next().and_then(|word| word.strip_prefix("HTTP/")).context("an answer without a version")?;
    let status = words.next().and_then(|word| word.parse().ok()).context("an answer without a status")?;
    let fields = fields.lines().filter_map(|line| line.split_once(':'));
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Ok(Probe { status, version: version.to_owned(), fields, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn an_answer_has_version_status_fields_and_body() {
        let probe = read("HTTP/2 429 \r\nX-Frame-Options: DENY\r\nretry-after: 5\r\n\r\nGET / HTTP/1.1\r\n").unwrap();
        assert_eq!((probe.status, probe.version.as_str()), (429, "2"));
        assert_eq!(probe.fields["x-frame-options"], "DENY");
        assert_eq!(probe.body, "GET / HTTP/1.1\r\n");
        assert!(read("HTTP/2 429").is_err());
    }
}
