//! What the operator writes: defaults, bounds, and every mistake at once.

use std::time::Duration;

use super::super::config::BreakerConfig;

const LEASE: Duration = Duration::from_secs(35);

fn read(json: &str) -> Result<BreakerConfig, serde_json::Error> {
    serde_json::from_str(json)
}

#[test]
fn nothing_written_means_five_failures_in_a_minute_and_half_of_all() {
    let config = read("{}").unwrap();
    assert_eq!(config, BreakerConfig::default());
    let rules = config.compile(LEASE).unwrap().expect("enabled by default");
    assert_eq!((rules.failures, rules.minimum, rules.probes), (5, 5, 1));
    assert_eq!((rules.window_nanos, rules.open_for_nanos), (60_000_000_000, 30_000_000_000));
    assert_eq!((rules.ratio_millionths, rules.probe_lease_nanos), (500_000, 35_000_000_000));
}

#[test]
fn everything_can_be_written() {
    let config =
        read(r#"{"enabled":true,"failures":7,"window":"10s","ratio":0.25,"minimum":40,"open_for":"5s","probes":3}"#);
    let rules = config.unwrap().compile(LEASE).unwrap().unwrap();
    assert_eq!((rules.failures, rules.minimum, rules.probes), (7, 40, 3));
    assert_eq!(
        (rules.window_nanos, rules.open_for_nanos, rules.ratio_millionths),
        (10_000_000_000, 5_000_000_000, 250_000)
    );
}

/// In binary 0.000249 is a little less; a share is what was written, to a millionth.
#[test]
fn a_share_is_rounded_and_not_cut() {
    for (json, millionths) in [(r#"{"ratio":0.000249}"#, 249), (r#"{"ratio":0.57}"#, 570_000), (r#"{"ratio":1e-6}"#, 1)]
    {
        assert_eq!(read(json).unwrap().compile(LEASE).unwrap().unwrap().ratio_millionths, millionths, "{json}");
    }
}

#[test]
fn an_unknown_key_and_a_bare_number_are_refused() {
    assert!(read(r#"{"failure":5}"#).unwrap_err().to_string().contains("failure"));
    assert!(read(r#"{"window":60}"#).is_err());
}

#[test]
fn a_breaker_can_be_left_out_but_not_be_wrong() {
    assert_eq!(read(r#"{"enabled":false}"#).unwrap().compile(LEASE).unwrap(), None);
    assert!(read(r#"{"enabled":false,"probes":0}"#).unwrap().compile(LEASE).is_err());
}

#[test]
fn the_bounds_hold_and_their_ends_are_inside() {
    for (json, wrong) in [
        (r#"{"failures":0}"#, vec!["failures"]),
        (r#"{"failures":1}"#, vec![]),
        (r#"{"failures":1000}"#, vec![]),
        (r#"{"failures":1001}"#, vec!["failures"]),
        (r#"{"window":"999ms"}"#, vec!["window"]),
        (r#"{"window":"1s"}"#, vec![]),
        (r#"{"window":"1h"}"#, vec![]),
        (r#"{"window":"3601s"}"#, vec!["window"]),
        (r#"{"ratio":0}"#, vec![]),
        (r#"{"ratio":1}"#, vec![]),
        (r#"{"ratio":1.01}"#, vec!["ratio"]),
        (r#"{"ratio":-0.1}"#, vec!["ratio"]),
        (r#"{"minimum":0}"#, vec!["minimum"]),
        (r#"{"minimum":1000000}"#, vec![]),
        (r#"{"minimum":1000001}"#, vec!["minimum"]),
        (r#"{"open_for":"999ms"}"#, vec!["open_for"]),
        (r#"{"open_for":"1s"}"#, vec![]),
        (r#"{"open_for":"61m"}"#, vec!["open_for"]),
        (r#"{"probes":0}"#, vec!["probes"]),
        (r#"{"probes":100}"#, vec![]),
        (r#"{"probes":101}"#, vec!["probes"]),
        (r#"{"failures":0,"ratio":2,"probes":0}"#, vec!["failures", "ratio", "probes"]),
    ] {
        let found = match read(json).unwrap().compile(LEASE) {
            Ok(_) => vec![],
            Err(found) => found.into_iter().map(|(field, _)| field).collect(),
        };
        assert_eq!(found, wrong, "{json}");
    }
    let not_a_number = BreakerConfig { ratio: f64::NAN, ..BreakerConfig::default() };
    assert!(not_a_number.compile(LEASE).is_err());
}

/// The window is cut as its documentation says, for every window that may be written, also after years.
#[test]
fn buckets_cover_the_window_and_at_most_one_more() {
    const YEAR: u64 = 365 * 86_400 * 1_000_000_000;
    for millis in (1000..=3_600_000).step_by(997) {
        let config = format!(r#"{{"window":"{millis}ms"}}"#);
        let rules = read(&config).unwrap().compile(LEASE).unwrap().unwrap();
        let (window, buckets) = (rules.window_nanos, rules.buckets);
        // The bucket on top, and what rounding adds to 16 buckets.
        let more = window / 15 + window / 10_000_000 + 32;
        for then in (0..64).map(|step| step * window / 61).flat_map(|then| [then, YEAR + then, 10 * YEAR + then]) {
            let counts_at = |now: u64| buckets.numbers(now).contains(&buckets.number(then));
            assert!(counts_at(then) && counts_at(then + window / 2), "{millis} ms, {then}");
            assert!(counts_at(then + window - 1), "{millis} ms, {then}: forgotten within the window");
            assert!(!counts_at(then + window + more), "{millis} ms, {then}: kept for more than a bucket");
        }
    }
}
