//! Checks of [`Bans`]: what was written is read back to the last field, and nothing else.
//!
//! Invariant: a check leaves the store as empty as it found it.

use portcullis_core::units::Cidr;

use crate::bans::{Ban, Bans, Ending, LONGEST_REASON_BYTES, MOST_PAST, Origin, Past, Record};

/// Runs every check on an empty store.
///
/// # Panics
/// When the backend does not do what [`Bans`] says.
pub async fn check_all(bans: &dyn Bans) {
    what_is_written_is_read_back(bans).await;
    the_last_word_about_a_network_stands(bans).await;
    what_is_removed_is_gone_and_nothing_else(bans).await;
    nothing_to_do_is_done(bans).await;
    many_at_once(bans).await;
}

fn network(text: &str) -> Cidr {
    text.parse().unwrap_or_else(|error| panic!("the check's own network: {error}"))
}

fn ban(origin: Origin, reason: &str, since: u64, until: Option<u64>) -> Ban {
    Ban { origin, reason: reason.to_owned(), since_unix_millis: since, until_unix_millis: until }
}

/// Every kind of field at its edges.
fn samples() -> Vec<Record> {
    let widest = i64::MAX as u64;
    let past =
        |since, ending| Past { ban: ban(Origin::LoginWatch, "", since, Some(since)), ended_unix_millis: since, ending };
    vec![
        Record {
            network: network("203.0.113.9"),
            ban: Some(ban(Origin::Operator, "x'; DROP TABLE bans; -- \u{1f6ab} \"", 0, None)),
            past: vec![],
        },
        Record {
            network: network("203.0.113.0/24"),
            ban: Some(ban(Origin::LoginWatch, &"x".repeat(LONGEST_REASON_BYTES), widest - 1, Some(widest))),
            past: [Ending::Expired, Ending::Lifted, Ending::Replaced].map(|ending| past(7, ending)).into(),
        },
        Record {
            network: network("2001:db8::/56"),
            ban: Some(ban(Origin::WiderNetwork, "many", 1, Some(2))),
            past: (0..MOST_PAST as u64).map(|since| past(since, Ending::Expired)).collect(),
        },
        Record { network: network("2001:db8::/64"), ban: None, past: vec![past(3, Ending::Lifted)] },
        Record { network: network("0.0.0.0/1"), ban: None, past: vec![] },
    ]
}

async fn listed(bans: &dyn Bans) -> Vec<Record> {
    let mut records = bans.list().await.unwrap_or_else(|error| panic!("{error}"));
    records.sort_by_key(|record| record.network.to_string());
    records
}

fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by_key(|record| record.network.to_string());
    records
}

async fn clear(bans: &dyn Bans) {
    let known: Vec<Cidr> = listed(bans).await.into_iter().map(|record| record.network).collect();
    bans.remove(&known).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(listed(bans).await, []);
}

/// Every field comes back as it was given, the order of past bans included.
pub async fn what_is_written_is_read_back(bans: &dyn Bans) {
    bans.update(&samples()).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(listed(bans).await, sorted(samples()));
    clear(bans).await;
}

/// A second record of a network takes the place of the first, its past included.
pub async fn the_last_word_about_a_network_stands(bans: &dyn Bans) {
    let at = network("192.0.2.1");
    let first = Record {
        network: at,
        ban: Some(ban(Origin::LoginWatch, "first", 1, Some(2))),
        past: (0..5)
            .map(|since| Past {
                ban: ban(Origin::Operator, "p", since, None),
                ended_unix_millis: since,
                ending: Ending::Lifted,
            })
            .collect(),
    };
    let second = Record { network: at, ban: None, past: first.past[3..].to_vec() };
    bans.update(std::slice::from_ref(&first)).await.unwrap_or_else(|error| panic!("{error}"));
    bans.update(&[first.clone(), second.clone()]).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(listed(bans).await, [second]);
    bans.update(std::slice::from_ref(&first)).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(listed(bans).await, [first]);
    clear(bans).await;
}

/// A network is known by its whole prefix; removing one leaves those around it.
pub async fn what_is_removed_is_gone_and_nothing_else(bans: &dyn Bans) {
    bans.update(&samples()).await.unwrap_or_else(|error| panic!("{error}"));
    let gone = [network("203.0.113.0/24"), network("2001:db8::/64"), network("198.51.100.1")];
    bans.remove(&gone).await.unwrap_or_else(|error| panic!("{error}"));
    let left: Vec<Record> = sorted(samples()).into_iter().filter(|record| !gone.contains(&record.network)).collect();
    assert_eq!(listed(bans).await, left);
    clear(bans).await;
}

/// Empty calls succeed and change nothing.
pub async fn nothing_to_do_is_done(bans: &dyn Bans) {
    bans.update(&[]).await.unwrap_or_else(|error| panic!("{error}"));
    bans.remove(&[]).await.unwrap_or_else(|error| panic!("{error}"));
    bans.remove(&[network("192.0.2.1")]).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(listed(bans).await, []);
}

/// As many as one writing ever holds, and they all come back.
pub async fn many_at_once(bans: &dyn Bans) {
    let many: Vec<Record> = (0..1000u32)
        .map(|number| Record {
            network: Cidr::from(std::net::IpAddr::from(number.to_be_bytes())),
            ban: Some(ban(Origin::LoginWatch, "many", u64::from(number), Some(u64::from(number) + 1))),
            past: vec![],
        })
        .collect();
    bans.update(&many).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(listed(bans).await, sorted(many));
    clear(bans).await;
}
