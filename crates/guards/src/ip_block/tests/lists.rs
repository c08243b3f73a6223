//! Allow, deny and trusted proxies, from config and from files, and mistakes in them.

use super::*;
use crate::ip_block::decide::{Decision, decide};
use crate::ip_block::table::Hit;

fn hit(network: &str) -> Hit {
    Hit { network: net(network), left_nanos: None }
}

#[test]
fn the_order_is_allow_deny_bans() {
    let rules = rules(json!({
        "ip_block": { "allow": ["192.0.2.7", "2001:db8::/32"], "deny": ["192.0.2.0/24", "2001:db8:1::/48", "203.0.113.0/24"] },
        "trusted_proxies": ["10.0.0.0/8"],
    }));
    let all = hit("0.0.0.0/1");
    for (address, ban, expected) in [
        ("192.0.2.7", Some(all), Decision::Allowed),
        ("192.0.2.8", Some(all), Decision::Denied),
        ("192.0.2.8", None, Decision::Denied),
        ("2001:db8:1::1", Some(all), Decision::Allowed),
        ("198.51.100.1", Some(all), Decision::Banned(all)),
        ("198.51.100.1", None, Decision::Unknown),
        ("10.1.2.3", Some(all), Decision::Trusted(all)),
        ("10.1.2.3", None, Decision::Unknown),
    ] {
        assert_eq!(decide(&rules, address.parse().unwrap(), || ban), expected, "{address} with {ban:?}");
    }
}

#[test]
fn mistakes_name_their_key() {
    let told = |value: Value| -> Vec<String> {
        let mistakes = compile(&config(value)).expect_err("mistakes");
        mistakes.into_iter().map(|mistake| format!("{}: {}", mistake.path, mistake.message)).collect()
    };
    for (value, expected) in [
        (json!({ "ladder": ["2h", "1h"] }), "ip_block.ladder[1]: must not be shorter"),
        (json!({ "ladder": ["0s"] }), "ip_block.ladder[0]: must be between 1s and 366d"),
        (json!({ "repeat_within": "1s" }), "ip_block.repeat_within: must be between 1m"),
        (json!({ "most_bans": 0 }), "ip_block.most_bans: 0 is out of bounds"),
        (json!({ "ipv6_wide": { "prefix": 64 } }), "ip_block.ipv6_wide.prefix: 64 must be 32 to 127 and less than"),
        (json!({ "ipv6_wide": { "networks": 1 } }), "ip_block.ipv6_wide.networks: 1 is out of bounds"),
        (json!({ "ipv6_wide": { "within": "1s" } }), "ip_block.ipv6_wide.within: must be between"),
        (json!({ "deny_files": ["/nowhere/deny.txt"] }), "ip_block.deny_files[0]: /nowhere/deny.txt: No such file"),
    ] {
        let told = told(json!({ "ip_block": value }));
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?} instead of {expected}");
    }
    assert!(serde_json::from_value::<PathConfig>(json!({ "ip_block": { "denied": [] } })).is_err());
}

#[test]
fn files_are_read_whole_or_refused_with_their_lines() {
    let folder = std::env::temp_dir().join(format!("portcullis-lists-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("good.txt"), "# ours\n192.0.2.0/24 ; the office\n\n  2001:db8::/32\r\n198.51.100.7#x\n")
        .unwrap();
    let mut listed = config(json!({ "ip_block": { "deny_files": ["good.txt"], "allow": ["192.0.2.9"] } }));
    listed.folder.clone_from(&folder);
    let rules = compile(&listed).unwrap();
    for (address, expected) in
        [("192.0.2.1", true), ("2001:db8::1", true), ("198.51.100.7", true), ("198.51.100.8", false)]
    {
        assert_eq!(rules.deny.contains(address.parse().unwrap()), expected, "{address}");
    }
    let lines: String = (0..9).map(|line| format!("10.0.0.{line}/8\n")).collect();
    std::fs::write(folder.join("bad.txt"), format!("192.0.2.1\n{lines}")).unwrap();
    listed.ip_block.deny_files = Some(vec!["bad.txt".into()]);
    let mistakes = compile(&listed).unwrap_err();
    assert_eq!(mistakes.len(), 6, "{mistakes:?}");
    assert!(
        mistakes[0].message.contains("bad.txt:2:") || mistakes[0].message.contains("bad.txt:3:"),
        "{}",
        mistakes[0].message
    );
    assert!(mistakes[5].message.contains("more wrong lines"), "{}", mistakes[5].message);
    std::fs::remove_dir_all(folder).unwrap();
}
