//! Runs every file in `scenarios/` against the real binary.

use std::path::Path;

use portcullis_testkit::client::Client;
use portcullis_testkit::gate::Gate;
use portcullis_testkit::scenario::{Exchange, compare, parse};

use crate::{BINARY, misbehaving};

#[test]
fn every_scenario_ends_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("there are scenarios")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "scenario"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let failures: Vec<String> = files
        .iter()
        .flat_map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            run(path).into_iter().map(move |failure| format!("{name}: {failure}"))
        })
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn run(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a readable file");
    let scenario = match parse(&text) {
        Ok(scenario) => scenario,
        Err(what) => return vec![what],
    };
    let upstream = misbehaving::start();
    let deaf = misbehaving::Deaf::start();
    let mut gate = Gate::start_with(
        BINARY,
        &scenario.config,
        &[
            ("UPSTREAM", &format!("http://{}", upstream.address)),
            ("NOBODY", &format!("http://{}", misbehaving::nobody())),
            ("DEAF", &format!("http://{}", deaf.address)),
        ],
    );
    scenario.exchanges.iter().filter_map(|exchange| send(&mut gate, exchange).err()).collect()
}

fn send(gate: &mut Gate, exchange: &Exchange) -> Result<(), String> {
    for turn in 1..=exchange.times {
        let mut client = Client::connect(gate.data);
        client.send(&exchange.request);
        let Some(response) = client.response() else { return Err(format!("line {}: no answer", exchange.line)) };
        if turn < exchange.times {
            continue;
        }
        compare(exchange, &response)?;
        let Some((guard, code)) = &exchange.trail else { return Ok(()) };
        let id = response.field("x-request-id").ok_or(format!("line {}: no request id", exchange.line))?;
        let line = gate.wait_for("the request's access log line", |line| line["request_id"] == id);
        if line["guard"] != guard.as_str() || line["code"] != code.as_str() {
            return Err(format!("line {}: the trail says {} {}", exchange.line, line["guard"], line["code"]));
        }
    }
    Ok(())
}
