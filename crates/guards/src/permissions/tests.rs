//! Permissions on routes: who passes, what is refused and with what, tenants that disagree, doubt, and mistakes in the config.

use portcullis_core::identity::{Claims, CredentialKind};
use portcullis_store::permissions::{Change, Effect, Fact as Holds, Record, Subject};
use serde_json::{Value, json};

use super::config::Plain;
use super::template::Template;
use super::*;
use crate::path::{Descent, Path};
use crate::rehearsal::{self, Ask};
use crate::route;

/// Gives the identity that the request names in a field, as `TENANT/USER/ROLE` with empty parts for none; of an issuer of tokens
/// where `/jwt` follows.
struct Named;

impl Guard for Named {
    fn name(&self) -> &'static str {
        "named"
    }

    fn gives(&self) -> &'static [Fact] {
        &[Fact::Identity]
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        let named = exchange.headers.get("x-test").map(|named| named.to_str().unwrap().to_owned());
        exchange.identity = named.map(|named| {
            let parts: Vec<String> = named.split('/').map(str::to_owned).collect();
            let some = |text: &String| (!text.is_empty()).then(|| text.clone());
            let kind = if parts.len() > 3 { CredentialKind::Jwt } else { CredentialKind::Session };
            Arc::new(identity(kind, "issuer", &parts[1], some(&parts[0]), some(&parts[2])))
        });
        Verdict::Pass
    }
}

fn identity(kind: CredentialKind, issuer: &str, user: &str, tenant: Option<String>, role: Option<String>) -> Identity {
    let (issuer, user, roles) = (issuer.to_owned(), user.to_owned(), role.into_iter().collect());
    Identity::new(kind, Claims { user, issuer, tenant, roles, ..Claims::default() }).unwrap()
}

fn config(general: Value, route: Value) -> PathConfig {
    let mut own = json!({ "name": "documents", "match": { "path": "/t/{tenant}/documents/{id}" }, "identity": { "required": true } });
    own.as_object_mut().unwrap().extend(route.as_object().unwrap().clone());
    let routes = json!([own, { "name": "open", "match": { "path": "/open" } }]);
    let mut config: PathConfig = serde_json::from_value(json!({ "permissions": general, "routes": routes })).unwrap();
    config.upstreams = vec!["app".to_owned()];
    config
}

fn path(config: &PathConfig, ground: &Ground) -> Path {
    let own = build(config, ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    Path::builder().add(route::build(config, ground).ok().unwrap()).add(Named).add(own).build().unwrap()
}

/// The ground, with Ada as an editor of `acme` and Bob kept from one document.
fn ground() -> Ground {
    let (ground, _) = rehearsal::ground();
    let user = |name: &str| Subject::User(name.into());
    let facts = [
        Holds::Role { role: "editor".into() },
        Holds::Permission { role: "editor".into(), permission: "documents:*".into() },
        Holds::Grant { subject: user("ada"), role: "editor".into() },
        Holds::Grant { subject: user("bob"), role: "editor".into() },
        Holds::Entry {
            resource: "document:a b".into(),
            subject: user("bob"),
            permission: "*".into(),
            effect: Effect::Deny,
        },
        Holds::Entry {
            resource: "document:7".into(),
            subject: user("carol"),
            permission: "documents:write".into(),
            effect: Effect::Allow,
        },
        Holds::Deactivated { user: "dave".into() },
    ];
    change(&ground, facts.map(|fact| Change::Add(Record { tenant: "acme".into(), fact })).into());
    ground
}

fn change(ground: &Ground, orders: Vec<Change>) {
    let planned = ground.permissions.plan(&orders).unwrap_or_else(|refused| panic!("{refused}"));
    ground.permissions.commit(planned);
}

/// The code and rule of the refusal; `None` when it passes.
fn refused(path: &Path, ask: Ask) -> Option<(Code, String)> {
    let mut exchange = ask.with("host", "a").begin();
    match path.descend(&mut exchange) {
        Descent::Refused(refusal) => {
            let step = exchange.trail.steps().last().unwrap();
            assert_eq!(refusal.retry_after_seconds.is_some(), refusal.code == Code::StoreUnavailable);
            Some((refusal.code, step.rule.text().to_owned()))
        }
        _ => None,
    }
}

fn asks_for_writing() -> Value {
    json!({ "permissions": {
        "permissions": ["documents:write"], "resource": "document:{id}", "tenant": "{tenant}", "tenant_header": "X-Tenant",
    } })
}

#[test]
fn who_passes_and_who_hears_what() {
    let ground = ground();
    let path = path(&config(json!({}), asks_for_writing()), &ground);
    let no = |code: Code, rule: &str| Some((code, rule.to_owned()));
    for (target, who, expected) in [
        ("/t/acme/documents/7", "acme/ada/", None),
        ("/t/acme/documents/7", "acme/carol/", None),
        ("/t/acme/documents/8", "acme/carol/", no(Code::Forbidden, "no_permission")),
        ("/t/acme/documents/7", "acme/dave/editor", no(Code::Forbidden, "deactivated")),
        ("/t/acme/documents/7", "acme/eve/", no(Code::Forbidden, "no_permission")),
        ("/t/acme/documents/7", "acme/eve/editor", None),
        ("/t/acme/documents/7", "acme/bob/", None),
        // The same name of another issuer is somebody else.
        ("/t/acme/documents/7", "acme/ada//jwt", no(Code::Forbidden, "no_permission")),
        // However the same id is written.
        ("/t/acme/documents/a%20b", "acme/bob/", no(Code::Forbidden, "denied")),
        ("/t/acme/./documents/%61%20b/", "acme/bob/", no(Code::Forbidden, "denied")),
        // Rows 137 and 138: of another tenant, in the path and in the identity.
        ("/t/globex/documents/7", "acme/ada/", no(Code::TenantMismatch, "tenant")),
        ("/t/globex/documents/7", "globex/ada/", no(Code::Forbidden, "no_permission")),
        ("/t/acme/documents/7", "/ada/editor", no(Code::TenantMismatch, "tenant")),
        ("/open", "acme/eve/", None),
    ] {
        assert_eq!(refused(&path, rehearsal::get(target).with("x-test", who)), expected, "{target} {who}");
    }
    let nobody = rehearsal::get("/t/acme/documents/7");
    assert_eq!(refused(&path, nobody), no(Code::Unauthenticated, "no_identity"), "never silently open");
    let long = format!("/t/acme/documents/{}", "x".repeat(500));
    assert_eq!(refused(&path, rehearsal::get(&long).with("x-test", "acme/ada/")), no(Code::Forbidden, "resource"));
    let text = ground.metrics.render();
    for line in ["checks_total{result=\"allowed\"} 4", "checks_total{result=\"refused\"} 7", "cache_misses_total{} 10"]
    {
        assert!(text.contains(&format!("portcullis_permission_{line}")), "{line} in {text}");
    }
}

/// Row 138: a header that names a tenant must name the identity's, each of its lines.
#[test]
fn row_138_tenants_that_disagree_are_refused_with_err_tenant_mismatch() {
    let path = path(&config(json!({}), asks_for_writing()), &ground());
    for (lines, is_refused) in [
        (vec![], false),
        (vec!["acme"], false),
        (vec!["acme", "acme"], false),
        (vec!["globex"], true),
        (vec!["acme", "globex"], true),
        (vec!["ACME"], true),
        (vec![""], true),
        (vec!["acme\u{fc}"], true),
    ] {
        let ask = rehearsal::get("/t/acme/documents/7").with("x-test", "acme/ada/");
        let ask = lines.iter().fold(ask, |ask, line| ask.with("x-tenant", line));
        let expected = is_refused.then(|| (Code::TenantMismatch, "tenant".to_owned()));
        assert_eq!(refused(&path, ask), expected, "{lines:?}");
    }
    assert_eq!(Code::TenantMismatch.entry().name, "ERR_TENANT_MISMATCH");
}

/// Row 134 on a route: the next request hears of the change.
#[test]
fn row_134_a_role_that_is_revoked_is_gone_with_the_next_request() {
    let ground = ground();
    let path = path(&config(json!({}), json!({ "permissions": { "roles": ["editor", "chief"] } })), &ground);
    let ask = || refused(&path, rehearsal::get("/t/acme/documents/7").with("x-test", "acme/ada/"));
    let grant = || {
        let (subject, role) = (Subject::User("ada".into()), "editor".into());
        Record { tenant: "acme".into(), fact: Holds::Grant { subject, role } }
    };
    for _ in 0..3 {
        assert_eq!((ask(), ask()), (None, None));
        change(&ground, vec![Change::Remove(grant())]);
        assert_eq!(ask(), Some((Code::Forbidden, "no_role".to_owned())));
        change(&ground, vec![Change::Add(grant())]);
    }
}

/// Row 135 on a route: closed by default, from memory where the operator says so.
#[test]
fn row_135_in_doubt_a_route_is_closed_or_read_only() {
    for (outage, warm) in [(json!({}), Some(Code::StoreUnavailable)), (json!({ "store": "read_only" }), None)] {
        let ground = ground();
        let mut route = asks_for_writing();
        route["on_outage"] = outage;
        let path = path(&config(json!({ "age": "1m" }), route), &ground);
        let ask = |who: &str, at_seconds: u64| {
            let mut exchange =
                rehearsal::get("/t/acme/documents/7").with("host", "a").with("x-test", format!("acme/{who}/")).begin();
            exchange.now.monotonic_nanos += at_seconds * 1_000_000_000;
            match path.descend(&mut exchange) {
                Descent::Refused(refusal) => Some(refusal.code),
                _ => None,
            }
        };
        assert_eq!(ask("ada", 0), None);
        ground.permissions.doubt();
        assert_eq!(ask("ada", 1), warm, "warm");
        assert_eq!(ask("bob", 1), Some(Code::StoreUnavailable), "cold");
        assert_eq!(ask("ada", 60), warm);
        assert_eq!(ask("ada", 61), Some(Code::StoreUnavailable), "too old");
        assert_eq!(Code::StoreUnavailable.entry().name, "ERR_STORE_UNAVAILABLE");
        let text = ground.metrics.render();
        assert!(text.contains("portcullis_permission_checks_total{result=\"unavailable\"}"), "{text}");
    }
}

#[test]
fn a_dry_run_says_what_decided_and_remembers_and_counts_nothing() {
    let ground = ground();
    let path = path(&config(json!({}), asks_for_writing()), &ground);
    let explain = |who: &str| {
        let ask = rehearsal::get("/t/acme/documents/7").with("host", "a").with("x-test", who).dry();
        let mut exchange = ask.begin();
        let _ = path.descend(&mut exchange);
        exchange.trail.steps().last().unwrap().detail.clone().unwrap_or_default().into_string()
    };
    assert_eq!(explain("acme/ada/"), "role editor, granted to the user, permits documents:write");
    assert_eq!(explain("acme/carol/"), "an entry for user carol on document:7 allows documents:write");
    assert_eq!(explain("acme/eve/"), "nothing permits documents:write");
    assert_eq!(ground.permissions.remembered(), (0, 0));
    assert!(ground.metrics.render().contains("portcullis_permission_checks_total{result=\"allowed\"} 0"));
}

#[test]
fn roles_that_are_carried_count_or_not() {
    for (general, is_refused) in [(json!({}), false), (json!({ "carried_roles": "ignore" }), true)] {
        let path = path(&config(general, json!({ "permissions": { "roles": ["editor"] } })), &ground());
        let ask = rehearsal::get("/t/acme/documents/7").with("x-test", "acme/eve/editor");
        assert_eq!(refused(&path, ask).is_some(), is_refused);
    }
}

/// ASVS 6.8.1: the same user of another issuer is somebody else.
#[test]
fn users_of_other_issuers_have_other_names_and_none_can_take_a_plain_one() {
    let plain = Plain::Issuer("https://id.example/".to_owned());
    let name = |kind, issuer, user| plain.other_name(&identity(kind, issuer, user, None, None));
    assert_eq!(name(CredentialKind::Jwt, "https://id.example/", "ada"), None);
    for (kind, issuer, user, expected) in [
        (CredentialKind::Jwt, "https://evil.example/", "ada", "https://evil.example/ ada"),
        (CredentialKind::Session, "https://id.example/", "ada", "https://id.example/ ada"),
        (
            CredentialKind::Jwt,
            "https://id.example/",
            "https://evil.example/ ada",
            "https://id.example/ https://evil.example/ ada",
        ),
        (CredentialKind::Jwt, "evil https://id.example/", "ada", "evil%20https://id.example/ ada"),
    ] {
        assert_eq!(name(kind, issuer, user).as_deref(), Some(expected));
    }
    let accounts = Plain::Accounts;
    assert_eq!(accounts.other_name(&identity(CredentialKind::ApiKey, "accounts", "ada", None, None)), None);
    assert!(accounts.other_name(&identity(CredentialKind::Jwt, "accounts", "ada", None, None)).is_some());
}

#[test]
fn what_makes_no_sense_is_refused_at_start() {
    let (ground, _) = rehearsal::ground();
    let wrong = |general: Value, route: Value| match build(&config(general, route), &ground) {
        Ok(_) => panic!("it was taken"),
        Err(mistakes) => mistakes.into_iter().map(|mistake| mistake.path).collect::<Vec<_>>(),
    };
    let asks = |value: Value| json!({ "permissions": value });
    let own = "routes[0].permissions";
    assert_eq!(wrong(json!({ "age": "6m" }), json!({})), ["permissions.age"]);
    assert_eq!(wrong(json!({ "age": "0s" }), json!({})), ["permissions.age"]);
    assert_eq!(wrong(json!({ "issuer": "https://x/" }), json!({})), ["permissions.issuer"]);
    for identity in [json!({ "required": false }), json!({}), json!({ "required": true, "accept": [] })] {
        assert_eq!(wrong(json!({}), json!({ "identity": identity, "permissions": {} })), [own]);
    }
    for (value, key) in [
        (json!({ "resource": "document:{id}" }), ".resource"),
        (json!({ "permissions": ["a"], "resource": "document:{no}" }), ".resource"),
        (json!({ "permissions": ["a"], "resource": "document:{id" }), ".resource"),
        (json!({ "permissions": ["a"], "resource": "{tenant}:{id}" }), ".resource"),
        (json!({ "permissions": ["a"], "resource": "document:*" }), ".resource"),
        (json!({ "permissions": ["a"], "resource": "" }), ".resource"),
        (json!({ "permissions": ["a:*"] }), ".permissions[0]"),
        (json!({ "roles": ["a", ""] }), ".roles[1]"),
        (json!({ "roles": vec!["a"; 33] }), ".roles"),
        (json!({ "tenant": "{org}" }), ".tenant"),
        (json!({ "tenant_header": "no name" }), ".tenant_header"),
    ] {
        assert_eq!(wrong(json!({}), asks(value.clone())), [format!("{own}{key}")], "{value}");
    }
}

#[test]
fn a_value_with_a_slash_or_a_control_character_makes_no_id() {
    let template = Template::parse("document:{id}", &[("id".into(), 0)]).unwrap();
    for (path, expected) in [("/a%20b", Some("document:a b")), ("/a%2Fb", None), ("/%C3%BC", Some("document:\u{fc}"))] {
        let mut exchange = rehearsal::get(path).with("host", "a").begin();
        exchange.path = Some(crate::route::NormalPath::of(&exchange.uri).unwrap());
        assert_eq!(template.fill(&exchange).as_deref(), expected, "{path}");
    }
}

proptest::proptest! {
    /// What keeps two resources apart in the path keeps their ids apart.
    #[test]
    fn different_segments_make_different_ids(one in segments(), two in segments()) {
        let template = Template::parse("p:{a}/{b}:end", &[("a".into(), 0), ("b".into(), 1)]).unwrap();
        let id = |segments: &(String, String)| {
            let mut exchange = rehearsal::get(&format!("/{}/{}", segments.0, segments.1)).with("host", "a").begin();
            exchange.path = Some(crate::route::NormalPath::of(&exchange.uri).ok()?);
            Some((exchange.path.as_ref()?.matched(&exchange.uri).to_owned(), template.fill(&exchange)?))
        };
        if let (Some((path, id_one)), Some((other, id_two))) = (id(&one), id(&two)) {
            proptest::prop_assert_eq!(path == other, id_one == id_two, "{} {}", path, other);
        }
    }
}

fn segments() -> impl proptest::strategy::Strategy<Value = (String, String)> {
    ("[a:%]{1,3}(%2[05F]|%3A|%41)?", "[a:]{1,3}(%2[05F]|%3A|%C3%BC)?")
}
