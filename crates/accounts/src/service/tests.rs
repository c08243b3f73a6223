//! What people do, from end to end without HTTP and without a disk, on a pretend clock.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_store::sessions::Digest;

use super::*;
use crate::config::{AccountsConfig, SessionsConfig, compile};
use crate::{token, totp};

const PASSWORD: &str = "seven grey boats in the bay";
const OTHER: &str = "eight green kites over hills";

/// A clock that a test moves.
struct Pretend(AtomicU64);

impl Clock for Pretend {
    fn now(&self) -> Now {
        let seconds = self.0.load(Ordering::Relaxed);
        Now { monotonic_nanos: seconds * 1_000_000_000, unix_millis: 1_800_000_000_000 + seconds * 1000 }
    }
}

struct Stage {
    service: Service,
    clock: Pretend,
}

fn stage(change: impl FnOnce(&mut Rules)) -> Stage {
    let accounts = AccountsConfig { registration: Registration::Open, ..AccountsConfig::default() };
    let mut rules = compile(&accounts, &SessionsConfig::default()).unwrap();
    // Hashing is tested where it stands; here it would only take time.
    rules.cost = crate::password::Cost { memory_kib: 8, passes: 1, lanes: 1 };
    rules.threads = Some(1);
    change(&mut rules);
    Stage { service: Service::start(rules, &Registry::new("test")).unwrap(), clock: Pretend(AtomicU64::new(0)) }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn client(last: u8) -> Client {
    Client { network: IpAddr::from([192, 0, 2, last]), fingerprint: Digest([1; 32]), agent: "test".to_owned() }
}

impl Stage {
    fn with_ann() -> Stage {
        let stage = stage(|_| {});
        wait(stage.service.register("Ann", None, &Secret::from(PASSWORD), &stage.clock)).unwrap();
        stage
    }

    fn log_in_with(
        &self,
        name: &str,
        password: &str,
        code: Option<&str>,
        device: Option<&str>,
    ) -> Result<LoggedIn, No> {
        let (password, code) = (Secret::from(password), code.map(Secret::from));
        let login =
            Login { name, password: &password, code: code.as_ref(), new_password: None, device, previous: None };
        wait(self.service.log_in(&login, &client(1), &self.clock))
    }

    fn log_in(&self, name: &str, password: &str) -> Result<LoggedIn, No> {
        self.log_in_with(name, password, None, None)
    }

    fn holds(&self, token: &Secret) -> bool {
        self.service.register.session(token.expose(), &client(1), &self.clock.now()).is_ok()
    }

    fn later(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Enrols ann; the session, the shared secret and the recovery codes.
    fn enrol(&self) -> (LoggedIn, Vec<u8>, Vec<Secret>) {
        let session = self.log_in("ann", PASSWORD).unwrap().session;
        wait(self.service.begin_totp(&session, &Secret::from(PASSWORD), &self.clock)).unwrap();
        let secret = self.service.register.find("ann").unwrap().now().totp.clone().unwrap().secret;
        let code = Secret::new(totp::shown(&secret, self.clock.now().unix_millis));
        let (logged_in, codes) = self.service.confirm_totp(&session, &code, &client(1), &self.clock.now()).unwrap();
        self.later(60);
        (logged_in, secret, codes)
    }
}

/// Row 103: one answer, whatever the reason.
#[test]
fn row_103_unknown_wrong_locked_and_disabled_are_told_alike() {
    let stage = Stage::with_ann();
    assert_eq!(stage.log_in("nobody", PASSWORD).err(), Some(No::Credentials));
    assert_eq!(stage.log_in("\u{430}nn", PASSWORD).err(), Some(No::Credentials));
    assert_eq!(stage.log_in("ann", OTHER).err(), Some(No::Credentials));
    stage.service.disable("ann", true).unwrap();
    assert_eq!(stage.log_in("ann", PASSWORD).err(), Some(No::Credentials));
    stage.service.disable("ann", false).unwrap();
    for _ in 0..9 {
        assert_eq!(stage.log_in("ann", OTHER).err(), Some(No::Credentials));
    }
    assert_eq!(stage.log_in("ann", PASSWORD).err(), Some(No::Credentials), "locked");
    stage.service.unlock("ann").unwrap();
    assert!(stage.log_in("ANN", PASSWORD).is_ok());
    assert_eq!(stage.service.counts.failed_logins.get(), 14);
}

/// Row 105.
#[test]
fn row_105_a_known_device_enters_while_strangers_are_locked_out() {
    let stage = Stage::with_ann();
    let device = stage.log_in("ann", PASSWORD).unwrap().device.expect("a new device is remembered");
    for _ in 0..12 {
        assert!(stage.log_in("ann", OTHER).is_err());
    }
    assert!(stage.log_in("ann", PASSWORD).is_err(), "from the network that guesses");
    let entered = stage.log_in_with("ann", PASSWORD, None, Some(device.expose())).unwrap();
    assert!(entered.device.is_none(), "and keeps its token");
    // A device of nobody, or of another account, is a stranger.
    let strange = token::new(crate::token::Kind::Device).unwrap();
    assert!(stage.log_in_with("ann", PASSWORD, None, Some(strange.expose())).is_err());
    stage.later(901);
    assert!(stage.log_in("ann", PASSWORD).is_ok());
}

/// Row 94.
#[test]
fn row_94_a_login_ends_the_session_that_the_client_came_with() {
    let stage = Stage::with_ann();
    let first = stage.log_in("ann", PASSWORD).unwrap();
    let password = Secret::from(PASSWORD);
    let login = Login {
        name: "ann",
        password: &password,
        code: None,
        new_password: None,
        device: None,
        previous: Some(first.token.expose()),
    };
    let second = wait(stage.service.log_in(&login, &client(1), &stage.clock)).unwrap();
    assert!(second.token != first.token && stage.holds(&second.token) && !stage.holds(&first.token));
}

/// Row 95.
#[test]
fn row_95_a_new_password_ends_every_session_and_begins_one() {
    let stage = Stage::with_ann();
    let sessions: Vec<LoggedIn> = (0..3).map(|_| stage.log_in("ann", PASSWORD).unwrap()).collect();
    let change = |current: &str, new: &str| {
        let (current, new) = (Secret::from(current), Secret::from(new));
        wait(stage.service.change_password(&sessions[0].session, &current, &new, &client(1), &stage.clock))
    };
    assert_eq!(change(OTHER, OTHER).err(), Some(No::Credentials));
    assert_eq!(change(PASSWORD, PASSWORD).err(), Some(No::Password(policy::Refused::Same)));
    assert_eq!(change(PASSWORD, "short").err(), Some(No::Password(policy::Refused::Short)));
    assert!(sessions.iter().all(|one| stage.holds(&one.token)));
    let renewed = change(PASSWORD, OTHER).unwrap();
    assert!(stage.holds(&renewed.token) && !sessions.iter().any(|one| stage.holds(&one.token)));
    assert!(stage.log_in("ann", PASSWORD).is_err() && stage.log_in("ann", OTHER).is_ok());
}

/// Rows 113, 114.
#[test]
fn rows_113_and_114_a_second_factor_is_asked_for_everywhere_and_good_once() {
    let stage = Stage::with_ann();
    let before = stage.log_in("ann", PASSWORD).unwrap();
    let (enrolled, secret, _) = stage.enrol();
    assert!(stage.holds(&enrolled.token) && !stage.holds(&before.token) && enrolled.session.record.has_second_factor);
    let now = |stage: &Stage| totp::shown(&secret, stage.clock.now().unix_millis);
    assert_eq!(stage.log_in("ann", PASSWORD).err(), Some(No::SecondFactor));
    assert_eq!(stage.log_in("ann", OTHER).err(), Some(No::Credentials), "a code alone is told to nobody");
    let code = now(&stage);
    assert!(stage.log_in_with("ann", PASSWORD, Some(&code), None).is_ok());
    assert_eq!(stage.log_in_with("ann", PASSWORD, Some(&code), None).err(), Some(No::Credentials), "once");
    // Guesses at the code are counted, whatever is known of the password.
    stage.later(60);
    for _ in 0..10 {
        assert!(stage.log_in_with("ann", PASSWORD, Some("000000"), None).is_err());
    }
    assert_eq!(stage.log_in_with("ann", PASSWORD, Some(&now(&stage)), None).err(), Some(No::Credentials));
    stage.later(901);
    assert!(stage.log_in_with("ann", PASSWORD, Some(&now(&stage)), None).is_ok());
}

/// Row 115.
#[test]
fn row_115_a_recovery_code_is_good_once() {
    let stage = Stage::with_ann();
    let (_, _, codes) = stage.enrol();
    assert_eq!(codes.len(), 10);
    let text = codes[3].expose().to_lowercase();
    assert!(stage.log_in_with("ann", PASSWORD, Some(&text), None).is_ok());
    assert_eq!(stage.log_in_with("ann", PASSWORD, Some(&text), None).err(), Some(No::Credentials));
    assert!(stage.log_in_with("ann", PASSWORD, Some(codes[4].expose()), None).is_ok());
}

#[test]
fn a_second_factor_allows_a_shorter_password_and_is_not_removed_from_under_it() {
    let stage = Stage::with_ann();
    let (enrolled, secret, _) = stage.enrol();
    let (current, short) = (Secret::from(PASSWORD), Secret::from("kvxqjwzrtbnm"));
    let change = |session: &LiveSession, from: &Secret, to: &Secret| {
        wait(stage.service.change_password(session, from, to, &client(1), &stage.clock)).unwrap()
    };
    let changed = change(&enrolled.session, &current, &short);
    let session = changed.session;
    let remove = |session: &LiveSession, password: &Secret| {
        stage.later(60);
        let code = Secret::new(totp::shown(&secret, stage.clock.now().unix_millis));
        wait(stage.service.remove_totp(session, password, &code, &client(1), &stage.clock))
    };
    assert_eq!(remove(&session, &short).err(), Some(No::Password(policy::Refused::Short)));
    let changed = change(&session, &short, &current);
    let session = changed.session;
    let left = remove(&session, &current).unwrap();
    assert!(!left.session.record.has_second_factor);
    assert!(stage.log_in("ann", PASSWORD).is_ok());
}

#[test]
fn a_hash_that_has_become_too_cheap_is_made_again_at_the_next_login() {
    let stage = stage(|rules| rules.cost.passes = 3);
    wait(stage.service.register("ann", None, &Secret::from(PASSWORD), &stage.clock)).unwrap();
    let hash = || stage.service.register.find("ann").unwrap().now().password.0.clone();
    stage.service.register.update("ann", |account| {
        let cheap = crate::password::Cost { memory_kib: 8, passes: 1, lanes: 1 };
        account.password = crate::password::hash(&Secret::from(PASSWORD), cheap, &mut Memory::default()).unwrap();
        Some(())
    });
    assert!(stage.log_in("ann", OTHER).is_err() && hash().contains("m=8,t=1"));
    assert!(stage.log_in("ann", PASSWORD).is_ok() && hash().contains("m=8,t=3"));
    assert!(stage.log_in("ann", PASSWORD).is_ok());
}

#[test]
fn a_password_that_has_expired_must_be_replaced_by_the_login() {
    let stage = stage(|rules| rules.max_age = Some(Duration::from_secs(90 * 86_400)));
    wait(stage.service.register("ann", None, &Secret::from(PASSWORD), &stage.clock)).unwrap();
    stage.later(90 * 86_400);
    assert!(stage.log_in("ann", PASSWORD).is_ok());
    stage.later(1);
    assert_eq!(stage.log_in("ann", PASSWORD).err(), Some(No::Expired));
    assert_eq!(stage.log_in("ann", OTHER).err(), Some(No::Credentials));
    let log_in = |new: &str| {
        let (password, new) = (Secret::from(PASSWORD), Secret::from(new));
        let login = Login {
            name: "ann",
            password: &password,
            code: None,
            new_password: Some(&new),
            device: None,
            previous: None,
        };
        wait(stage.service.log_in(&login, &client(1), &stage.clock))
    };
    assert_eq!(log_in(PASSWORD).err(), Some(No::Password(policy::Refused::Same)));
    assert!(log_in(OTHER).is_ok());
    assert!(stage.log_in("ann", OTHER).is_ok() && stage.log_in("ann", PASSWORD).is_err());
}

/// Row 118, and who may register at all.
#[test]
fn row_118_registration_is_closed_unless_it_is_opened_and_gives_no_reserved_name() {
    let open = stage(|_| {});
    let register = |stage: &Stage, name: &str, email: Option<&str>, password: &str| {
        wait(stage.service.register(name, email, &Secret::from(password), &stage.clock))
    };
    assert_eq!(register(&open, "Admin", None, PASSWORD), Err(No::Taken));
    assert!(matches!(register(&open, "\u{430}dmin", None, PASSWORD), Err(No::Wrong(_))));
    assert!(matches!(register(&open, "bob", Some("a@evil.com@company.com"), PASSWORD), Err(No::Wrong(_))));
    assert_eq!(register(&open, "bob", None, "passwordpassword"), Err(No::Password(policy::Refused::Common)));
    assert_eq!(register(&open, "bob", Some("bob@example.com"), PASSWORD), Ok("bob".to_owned()));
    assert_eq!(register(&open, "BOB", None, PASSWORD), Err(No::Taken));
    let closed = stage(|rules| rules.registration = Registration::Closed);
    assert_eq!(register(&closed, "bob", None, PASSWORD), Err(No::Closed));
    let order = Order {
        name: "admin",
        tenant: "acme",
        email: None,
        roles: vec!["admin".to_owned()],
        password: &Secret::from(PASSWORD),
    };
    assert_eq!(wait(closed.service.create(&order, &closed.clock)), Ok("admin".to_owned()));
    let again = Order { roles: vec!["a b".to_owned()], name: "cat", ..order };
    assert!(matches!(wait(closed.service.create(&again, &closed.clock)), Err(No::Wrong(_))));
}
