//! Checks of [`Acts`]: what was written is read back to the last field, in order, and only its end changes.
//!
//! Invariant: needs a store without acts.

use crate::acts::{Act, Acts};

/// Runs every check on an empty store.
///
/// # Panics
/// When the backend does not do what [`Acts`] says.
pub async fn check_all(acts: &dyn Acts) {
    assert!(acts.list(u64::MAX, 10).await.is_ok_and(|listed| listed.is_empty()), "it is not empty");
    let mut numbers = Vec::new();
    for number in 0..5_u16 {
        let added = acts.add(&act(number)).await;
        numbers.push(added.unwrap_or_else(|error| panic!("{error}")));
    }
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]) && numbers[0] > 0, "{numbers:?}");
    acts.update(numbers[3], 204).await.unwrap_or_else(|error| panic!("{error}"));
    acts.update(numbers[4] + 1, 500).await.unwrap_or_else(|error| panic!("{error}"));
    let listed = acts.list(u64::MAX, 10).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        listed.iter().map(|known| known.number).collect::<Vec<_>>(),
        numbers.iter().rev().copied().collect::<Vec<_>>()
    );
    for (place, known) in listed.iter().rev().enumerate() {
        let mut expected = act(place as u16);
        expected.status = if place == 3 { Some(204) } else { expected.status };
        assert_eq!(known.act, expected, "{place}");
    }
    let page = acts.list(numbers[3], 2).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(page.iter().map(|known| known.number).collect::<Vec<_>>(), [numbers[2], numbers[1]]);
}

fn act(number: u16) -> Act {
    Act {
        at_unix_millis: [0, 1, 1_767_261_600_000, i64::MAX as u64, 7][usize::from(number)],
        who: "token:x'; DROP TABLE acts; -- \u{1f6aa}".to_owned(),
        action: "bans.add".to_owned(),
        target: format!("POST /api/v1/bans/{number}"),
        request_id: String::new(),
        status: (number == 0).then_some(999),
    }
}
