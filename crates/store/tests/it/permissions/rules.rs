//! What a check finds, case by case; what is refused; how long decisions are remembered; what happens in doubt.

use portcullis_store::permissions::{
    Change, DEEPEST, Effect, Fact, MOST_ABOVE, MOST_DECISIONS, MOST_GRANTS, MOST_GROUPS, Name, Policy, Question,
    Record, Refused, Why,
};

use super::{
    MINUTE, add, ask, asking, deactivated, entry, grant, group, member, of_acme, permits, policy, remove, role, user,
};

/// Alice is an editor through two groups in each other, Bob reads by himself.
fn newspaper() -> Policy {
    let policy = policy();
    add(&policy, [role("editor"), permits("editor", "documents:write"), permits("editor", "documents:read")]);
    add(&policy, [role("reader"), permits("reader", "documents:read"), grant(user("bob"), "reader")]);
    add(
        &policy,
        [member(user("alice"), "writers"), member(group("writers"), "staff"), grant(group("staff"), "editor")],
    );
    policy
}

#[test]
fn each_kind_of_record_decides() {
    use Effect::{Allow, Deny};
    let one = "document:1";
    for (facts, who, permission, resource, expected) in [
        (vec![], "alice", "documents:write", None, Why::Permitted),
        (vec![], "alice", "documents:write", Some(one), Why::Permitted),
        (vec![], "bob", "documents:write", None, Why::NoPermission),
        (vec![], "carol", "documents:read", None, Why::NoPermission),
        (vec![deactivated("alice")], "alice", "documents:read", None, Why::Deactivated),
        (vec![deactivated("ALICE")], "alice", "documents:read", None, Why::Permitted),
        (vec![permits("reader", "documents:*")], "bob", "documents:write", None, Why::Permitted),
        (vec![permits("reader", "*")], "bob", "anything", None, Why::Permitted),
        (vec![permits("reader", "documents:write:*")], "bob", "documents:write", None, Why::NoPermission),
        // Entries: for a user, a group, a group around a group, a kind of resource; a denial wins.
        (vec![entry(Allow, user("bob"), "documents:write", one)], "bob", "documents:write", Some(one), Why::Entry),
        (vec![entry(Allow, user("bob"), "documents:write", one)], "bob", "documents:write", None, Why::NoPermission),
        (vec![entry(Allow, user("bob"), "*", "document:2")], "bob", "documents:write", Some(one), Why::NoPermission),
        (vec![entry(Allow, user("bob"), "documents:*", "document:*")], "bob", "documents:write", Some(one), Why::Entry),
        (vec![entry(Deny, group("staff"), "documents:write", one)], "alice", "documents:write", Some(one), Why::Denied),
        (vec![entry(Deny, group("staff"), "*", "document:*")], "alice", "documents:write", Some(one), Why::Denied),
        (vec![entry(Deny, group("staff"), "*", "*")], "bob", "documents:read", Some(one), Why::Permitted),
        (
            vec![entry(Allow, user("alice"), "documents:write", one), entry(Deny, group("writers"), "*", "*")],
            "alice",
            "documents:write",
            Some(one),
            Why::Denied,
        ),
        (
            vec![entry(Deny, user("alice"), "documents:*", one), entry(Allow, user("alice"), "documents:write", one)],
            "alice",
            "documents:write",
            Some(one),
            Why::Denied,
        ),
        // A user and a group of the same name are two.
        (vec![entry(Deny, user("staff"), "*", one)], "alice", "documents:write", Some(one), Why::Permitted),
    ] {
        let policy = newspaper();
        add(&policy, facts.clone());
        assert_eq!(ask(&policy, who, permission, resource), expected, "{who} {permission} {resource:?} with {facts:?}");
    }
}

#[test]
fn roles_that_a_token_carries_count_beside_those_granted_here_and_never_beat_a_denial() {
    let policy = newspaper();
    let check = |user: &str, carried: &[&str], roles: &[&str], permission: Option<&str>| {
        let names = |texts: &[&str]| texts.iter().map(|text| Name::from(*text)).collect::<Vec<_>>();
        let (roles, permissions) = (names(roles), names(permission.as_slice()));
        let question = Question {
            tenant: "acme",
            user,
            carried,
            roles: &roles,
            permissions: &permissions,
            resource: Some("document:1"),
        };
        policy.check(&question, 0, MINUTE, false).expect("nothing is in doubt").why
    };
    assert_eq!(check("carol", &[], &["editor"], None), Why::NoRole);
    assert_eq!(check("carol", &["editor"], &["editor"], None), Why::Role);
    assert_eq!(check("carol", &["chief"], &["editor", "chief"], None), Why::Role, "a role of the token alone");
    assert_eq!(check("carol", &["editor"], &[], Some("documents:write")), Why::Permitted);
    assert_eq!(check("carol", &["chief"], &[], Some("documents:write")), Why::NoPermission);
    assert_eq!(
        check("alice", &["chief"], &["chief"], Some("documents:write")),
        Why::Permitted,
        "each from its own side"
    );
    assert_eq!(check("carol", &[], &[], None), Why::Role, "nothing was asked but that the user is active");
    add(&policy, [entry(Effect::Deny, user("carol"), "documents:write", "document:1"), deactivated("dave")]);
    assert_eq!(check("carol", &["editor"], &["editor"], Some("documents:write")), Why::Denied);
    assert_eq!(check("dave", &["editor"], &["editor"], None), Why::Deactivated);
}

/// Row 137: two tenants share every name, and nothing else.
#[test]
fn row_137_a_decision_of_one_tenant_is_never_that_of_another() {
    let policy = newspaper();
    let permissions = [Name::from("documents:write")];
    let allowed = |tenant| {
        let question = asking(tenant, "alice", &permissions);
        (0..2).map(|_| policy.check(&question, 0, MINUTE, false).expect("sure").why.is_allowed()).collect::<Vec<_>>()
    };
    assert_eq!(allowed("acme"), [true, true]);
    for other in ["globex", "", "ACME", "acme "] {
        assert_eq!(allowed(other), [false, false], "{other:?}");
    }
    // Texts that join to the same bytes are different questions.
    let ask = |tenant, user| policy.check(&asking(tenant, user, &permissions), 0, MINUTE, false).expect("sure").why;
    assert!(!ask("acmea", "lice").is_allowed());
    // A change in one tenant, however drastic, alters nothing in the other.
    let globex = |fact| Change::Add(Record { tenant: "globex".into(), fact });
    policy.commit(policy.plan(&[globex(deactivated("alice")), globex(role("editor"))]).unwrap());
    assert!(ask("acme", "alice").is_allowed());
    assert_eq!(ask("globex", "alice"), Why::Deactivated);
}

#[test]
fn a_decision_is_remembered_until_it_is_too_old_however_often_it_is_asked() {
    let policy = newspaper();
    let permissions = [Name::from("documents:write")];
    let at = |now| policy.check(&asking("acme", "alice", &permissions), now, 5 * MINUTE, false).unwrap().is_remembered;
    assert!(!at(0));
    // Row 134: asking does not make it younger.
    assert!((1..=5).all(|minute| at(minute * MINUTE)), "five minutes old is young enough");
    assert!(!at(5 * MINUTE + 1));
    assert!(at(10 * MINUTE));
    let younger = policy.check(&asking("acme", "alice", &permissions), 10 * MINUTE, MINUTE, false);
    assert!(!younger.unwrap().is_remembered, "a shorter age holds for what is remembered already");
}

#[test]
fn a_change_makes_exactly_what_it_touches_be_asked_anew() {
    let policy = newspaper();
    let remembered = |user: &str, resource: Option<&str>| {
        let permissions = [Name::from("documents:read")];
        let question = Question { resource, ..asking("acme", user, &permissions) };
        let asked = || policy.check(&question, 0, MINUTE, false).unwrap().is_remembered;
        let was = asked();
        assert!(asked());
        was
    };
    let all = [
        ("alice", None),
        ("alice", Some("document:1")),
        ("bob", None),
        ("bob", Some("document:1")),
        ("bob", Some("document:2")),
    ];
    let kept = || all.map(|(user, resource)| remembered(user, resource));
    kept();
    assert_eq!(kept(), [true; 5]);
    add(&policy, [grant(user("alice"), "reader")]);
    assert_eq!(kept(), [false, false, true, true, true], "of one user");
    add(&policy, [entry(Effect::Allow, group("staff"), "documents:read", "document:1")]);
    assert_eq!(kept(), [true, false, true, false, true], "of one resource");
    add(&policy, [grant(group("staff"), "reader")]);
    assert_eq!(kept(), [false; 5], "of the tenant");
    remove(&policy, deactivated("nobody"));
    assert_eq!(kept(), [true; 5], "nothing changed");
}

/// Row 136: a role without a permission permits nothing, and neither does a tenant without a record.
#[test]
fn row_136_nothing_known_is_nothing_permitted() {
    let policy = policy();
    assert_eq!(ask(&policy, "alice", "documents:read", None), Why::NoPermission);
    add(&policy, [role("editor"), grant(user("alice"), "editor")]);
    assert_eq!(ask(&policy, "alice", "documents:read", None), Why::NoPermission);
    add(&policy, [permits("editor", "documents:read")]);
    assert_eq!(ask(&policy, "alice", "documents:read", None), Why::Permitted);
    policy.load(&[]).unwrap();
    assert_eq!(ask(&policy, "alice", "documents:read", None), Why::NoPermission);
}

/// Row 135: in doubt nobody is answered but from memory where that is allowed, and no longer than its age.
#[test]
fn row_135_in_doubt_only_what_is_remembered_is_answered_and_only_where_that_is_allowed() {
    let policy = newspaper();
    let permissions = [Name::from("documents:write")];
    let check = |user, now, takes_remembered| {
        let asked = policy.check(&asking("acme", user, &permissions), now, 5 * MINUTE, takes_remembered);
        asked.map(|asked| asked.why)
    };
    assert_eq!(check("alice", 0, false), Some(Why::Permitted));
    policy.doubt();
    assert!(!policy.is_sure());
    assert_eq!(check("alice", 1, false), None, "closed");
    assert_eq!(check("alice", 1, true), Some(Why::Permitted), "warm");
    assert_eq!(check("bob", 1, true), None, "cold");
    assert_eq!(check("alice", 5 * MINUTE, true), Some(Why::Permitted));
    assert_eq!(check("alice", 5 * MINUTE + 1, true), None, "too old");
    let records = policy.list(None, None, usize::MAX);
    policy.load(&records).unwrap();
    assert_eq!(check("bob", 5 * MINUTE + 2, false), Some(Why::NoPermission));
}

/// Row 140: questions of made-up users take bounded memory and do not drive out what is asked all the time.
#[test]
fn row_140_a_flood_of_refusals_is_bounded() {
    let policy = newspaper();
    let permissions = [Name::from("documents:write")];
    let ask = |user: &str| policy.check(&asking("acme", user, &permissions), 0, MINUTE, false).unwrap().is_remembered;
    let mut missed = 0;
    for number in 0..2 * MOST_DECISIONS {
        assert!(!ask(&format!("nobody-{number}")));
        if number % 100 == 0 {
            missed += u32::from(!ask("alice"));
        }
    }
    let (count, bytes) = policy.remembered();
    assert!(count <= MOST_DECISIONS + MOST_DECISIONS / 50, "{count} decisions");
    assert!(bytes <= 13_000_000, "{bytes} bytes");
    assert!(missed <= 20, "Alice was forgotten {missed} times in {} checks", 2 * MOST_DECISIONS / 100);
}

#[test]
fn orders_that_make_no_sense_are_refused_whole() {
    let policy = newspaper();
    let before = policy.list(None, None, usize::MAX);
    let try_all = |facts: Vec<Fact>| {
        let orders: Vec<Change> = facts.into_iter().map(of_acme).map(Change::Add).collect();
        policy.plan(&orders).expect_err("it makes no sense")
    };
    let ring = |refused| matches!(refused, Refused::Ring { .. });
    assert!(ring(try_all(vec![role("new"), member(group("staff"), "staff")])));
    assert!(ring(try_all(vec![member(group("staff"), "writers")])));
    assert!(ring(try_all(vec![member(group("a"), "b"), member(group("b"), "c"), member(group("c"), "a")])));
    assert!(matches!(try_all(vec![grant(user("x"), "absent")]), Refused::NoRole { .. }));
    assert!(matches!(try_all(vec![permits("absent", "a")]), Refused::NoRole { .. }));
    assert!(matches!(try_all(vec![role("")]), Refused::Name(_)));
    assert!(matches!(try_all(vec![deactivated("a\nb")]), Refused::Name(_)));
    assert!(matches!(try_all(vec![entry(Effect::Deny, user("a"), "a*", "r")]), Refused::Name(_)));
    assert_eq!(policy.list(None, None, usize::MAX), before);
}

#[test]
fn everything_is_bounded() {
    let too_many = |policy: &Policy, fact: Fact| match policy.plan(&[Change::Add(of_acme(fact))]) {
        Err(Refused::TooMany { most, .. }) => most,
        other => panic!("{other:?}"),
    };
    let policy = policy();
    add(&policy, (0..=MOST_GRANTS).map(|number| role(&format!("r{number}"))));
    add(&policy, (0..MOST_GRANTS).map(|number| grant(user("u"), &format!("r{number}"))));
    assert_eq!(too_many(&policy, grant(user("u"), &format!("r{MOST_GRANTS}"))), MOST_GRANTS);
    add(&policy, (0..MOST_GROUPS).map(|number| member(user("u"), &format!("g{number}"))));
    assert_eq!(too_many(&policy, member(user("u"), "one-more")), MOST_GROUPS);
    // A chain as deep as it may be, from both ends and in the middle.
    add(&policy, (0..DEEPEST).map(|number| member(group(&format!("d{number}")), &format!("d{}", number + 1))));
    assert_eq!(too_many(&policy, member(group("lower"), "d0")), DEEPEST);
    assert_eq!(too_many(&policy, member(group(&format!("d{DEEPEST}")), "higher")), DEEPEST);
    remove(&policy, member(group("d3"), "d4"));
    add(&policy, [member(group("d3"), "d5")]);
    add(&policy, [member(group("lower"), "d0")]);
    // Many above one, none of them deep.
    add(&policy, (0..MOST_ABOVE - 1).map(|number| member(group("wide"), &format!("above{number}"))));
    assert_eq!(too_many(&policy, member(group("wide"), "d0")), MOST_ABOVE);
    add(&policy, [member(group("wide"), "one")]);
    assert_eq!(too_many(&policy, member(group("one"), "more")), MOST_ABOVE, "the bound holds for those below");
}

#[test]
fn a_role_takes_what_hangs_on_it_along_and_a_list_has_pages() {
    let policy = newspaper();
    let planned = policy.plan(&[Change::Remove(of_acme(role("editor")))]).unwrap();
    let gone = |fact| Change::Remove(of_acme(fact));
    let mut changes = planned.changes.clone();
    assert_eq!(changes.pop(), Some(gone(role("editor"))), "the role itself goes last");
    changes.sort_by_key(|change| format!("{change:?}"));
    assert_eq!(
        changes,
        [
            gone(grant(group("staff"), "editor")),
            gone(permits("editor", "documents:read")),
            gone(permits("editor", "documents:write")),
        ]
    );
    policy.commit(planned);
    let all = policy.list(None, None, usize::MAX);
    assert_eq!(all.len(), 5);
    let mut paged: Vec<Record> = Vec::new();
    loop {
        let page = policy.list(Some("acme"), paged.last(), 2);
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, all);
    assert_eq!(policy.list(Some("globex"), None, 10), []);
}

#[test]
fn the_words_for_people_name_what_decided() {
    let policy = newspaper();
    add(&policy, [entry(Effect::Deny, group("writers"), "documents:write", "document:*"), deactivated("dave")]);
    for (user, carried, resource, expected) in [
        ("alice", None, None, "role editor, granted to group staff, permits documents:write"),
        ("carol", Some("editor"), None, "role editor, carried by the token, permits documents:write"),
        ("alice", None, Some("document:1"), "an entry for group writers on document:1 denies documents:write"),
        ("bob", None, None, "nothing permits documents:write"),
        ("dave", None, None, "user dave is deactivated"),
    ] {
        let permissions = [Name::from("documents:write")];
        let carried: Vec<&str> = carried.into_iter().collect();
        let question = Question { carried: &carried, resource, ..asking("acme", user, &permissions) };
        assert_eq!(policy.explain(&question).by, expected);
    }
}
