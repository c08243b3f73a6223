//! Passwords as hashes: Argon2id (RFC 9106), kept as PHC strings, made again when the parameters grow.
//!
//! A password is normalised before it is hashed (RFC 8265, `OpaqueString`: NFC, other spaces become the ASCII one), so that
//! the same password typed on another keyboard is the same. A stored hash is read strictly and its parameters are bounded
//! before anything is allocated: a hash that somebody else wrote must not cost 4 GiB.
//!
//! Invariant: the whole password is hashed, never a part; passwords and hashes are never printed.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use portcullis_core::secret::Secret;
use portcullis_store::accounts::Hash;
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::token::{self, NoRandomness};

/// The longest password, in bytes of UTF-8 after normalising: enough for 256 code points of any kind.
pub const LONGEST_BYTES: usize = 1024;
/// The most memory that a stored hash may ask for, in KiB.
pub const MOST_MEMORY_KIB: u32 = 256 * 1024;
/// The most passes that a stored hash may ask for.
pub const MOST_PASSES: u32 = 64;
/// The most lanes that a stored hash may ask for.
pub const MOST_LANES: u32 = 16;
const SALT_BYTES: usize = 16;
const OUTPUT_BYTES: usize = 32;

/// What a hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Cost {
    /// The second set that OWASP's Password Storage Cheat Sheet and ASVS 5.0 appendix C name.
    pub const DEFAULT: Cost = Cost { memory_kib: 19_456, passes: 2, lanes: 1 };

    fn params(self) -> Result<Params, Unusable> {
        let is_bounded =
            self.memory_kib <= MOST_MEMORY_KIB && self.passes <= MOST_PASSES && (1..=MOST_LANES).contains(&self.lanes);
        if !is_bounded {
            return Err(Unusable);
        }
        Params::new(self.memory_kib, self.passes, self.lanes, Some(OUTPUT_BYTES)).map_err(|_| Unusable)
    }
}

/// A stored hash that cannot be held against anything: not a PHC string of Argon2id, or one that asks for too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored hash cannot be used")]
pub struct Unusable;

/// Why there is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHashed {
    /// No salt.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The cost is out of bounds.
    #[error("the cost of hashing is out of bounds")]
    Cost,
}

/// Memory for hashing that is used again, so that a hash does not fetch it from the kernel each time.
#[derive(Default)]
pub struct Memory(Vec<Block>);

impl Memory {
    fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.0.len() < count {
            self.0.resize(count, Block::default());
        }
        &mut self.0[..count]
    }
}

/// The password as it is hashed and counted.
#[must_use]
pub fn normalised(written: &Secret) -> Secret {
    let spaced = written.expose().chars().map(|letter| if is_space(letter) { ' ' } else { letter });
    Secret::new(spaced.nfc().collect::<String>())
}

/// Whether a password is too long to be looked at, told before any work is done on it. Normalising can lengthen a text three
/// times at most (Unicode Standard Annex 15), so what passes here is bounded, too.
#[must_use]
pub fn is_too_long(written: &Secret) -> bool {
    written.expose().len() > LONGEST_BYTES
}

/// The space separators (general category Zs) beside the ASCII one.
fn is_space(letter: char) -> bool {
    matches!(letter, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Hashes a normalised password with a new salt.
///
/// # Errors
/// [`NotHashed`]
pub fn hash(password: &Secret, cost: Cost, memory: &mut Memory) -> Result<Hash, NotHashed> {
    let salt = token::random::<SALT_BYTES>()?;
    let params = cost.params().map_err(|_| NotHashed::Cost)?;
    let output = output(password, salt.as_slice(), params, memory).map_err(|_| NotHashed::Cost)?;
    let Cost { memory_kib, passes, lanes } = cost;
    let (salt, output) = (STANDARD_NO_PAD.encode(salt.as_slice()), STANDARD_NO_PAD.encode(output.as_slice()));
    Ok(Hash(format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${output}")))
}

/// Whether `password` is the one that `hash` was made of.
///
/// # Errors
/// [`Unusable`], before anything was allocated.
pub fn is_password(password: &Secret, hash: &Hash, memory: &mut Memory) -> Result<bool, Unusable> {
    let read = Read::of(hash)?;
    let found = output(password, &read.salt, read.cost.params()?, memory)?;
    Ok(found.as_slice().ct_eq(&read.output).into())
}

/// Whether a hash was made with less than `cost`, and must be made again when the password is next known.
#[must_use]
pub fn is_weaker(hash: &Hash, cost: Cost) -> bool {
    let work = |cost: Cost| u64::from(cost.memory_kib) * u64::from(cost.passes);
    Read::of(hash).is_ok_and(|read| work(read.cost) < work(cost))
}

fn output(
    password: &Secret,
    salt: &[u8],
    params: Params,
    memory: &mut Memory,
) -> Result<Zeroizing<[u8; OUTPUT_BYTES]>, Unusable> {
    let blocks = memory.blocks(params.block_count());
    let mut output = Zeroizing::new([0; OUTPUT_BYTES]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hashed = argon2.hash_password_into_with_memory(password.expose().as_bytes(), salt, &mut *output, blocks);
    hashed.map_err(|_| Unusable).map(|()| output)
}

/// A PHC string, read.
struct Read {
    cost: Cost,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl Read {
    fn of(hash: &Hash) -> Result<Read, Unusable> {
        let mut parts = hash.0.split('$');
        let mut next = || parts.next().ok_or(Unusable);
        if (next()?, next()?, next()?) != ("", "argon2id", "v=19") {
            return Err(Unusable);
        }
        let mut costs = next()?.split(',');
        let mut cost = |name: &str| {
            let digits = costs.next().and_then(|cost| cost.strip_prefix(name)).ok_or(Unusable)?;
            let is_plain = digits.bytes().all(|digit| digit.is_ascii_digit());
            is_plain.then(|| digits.parse::<u32>().ok()).flatten().ok_or(Unusable)
        };
        let cost = Cost { memory_kib: cost("m=")?, passes: cost("t=")?, lanes: cost("p=")? };
        if costs.next().is_some() {
            return Err(Unusable);
        }
        cost.params()?;
        let (salt, output) = (decoded(next()?)?, decoded(next()?)?);
        let is_whole = parts.next().is_none() && (8..=64).contains(&salt.len()) && output.len() == OUTPUT_BYTES;
        if is_whole { Ok(Read { cost, salt, output }) } else { Err(Unusable) }
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, Unusable> {
    if text.len() > 128 {
        return Err(Unusable);
    }
    STANDARD_NO_PAD.decode(text).map_err(|_| Unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    /// RFC 9106, section 5.3.
    #[test]
    fn the_hash_is_that_of_rfc_9106_section_5_3() {
        let mut builder = argon2::ParamsBuilder::new();
        builder.m_cost(32).t_cost(3).p_cost(4).output_len(32);
        builder.data(argon2::AssociatedData::new(&[4; 12]).unwrap());
        let argon2 =
            Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, builder.build().unwrap()).unwrap();
        let mut output = [0; 32];
        argon2.hash_password_into(&[1; 32], &[2; 16], &mut output).unwrap();
        let expected = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659";
        assert_eq!(output.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
    }

    /// Made by the reference implementation: `echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1 -l 32 -e`, as its own
    /// test (`src/test.c`) has it.
    #[test]
    fn a_hash_of_the_reference_implementation_is_taken() {
        let hash =
            Hash("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc".to_owned());
        assert_eq!(is_password(&Secret::from("password"), &hash, &mut Memory::default()), Ok(true));
        assert_eq!(is_password(&Secret::from("passwore"), &hash, &mut Memory::default()), Ok(false));
    }

    #[test]
    fn what_was_hashed_is_the_password_and_nothing_else_is() {
        let mut memory = Memory::default();
        let password = Secret::from("correct horse battery staple");
        let one = hash(&password, QUICK, &mut memory).unwrap();
        let two = hash(&password, Cost { memory_kib: 64, passes: 3, lanes: 2 }, &mut memory).unwrap();
        assert!(one != two && one.0.starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
        for hash in [&one, &two] {
            assert_eq!(is_password(&password, hash, &mut memory), Ok(true));
            for other in
                ["", "correct horse battery stapl", "correct horse battery staple ", "Correct horse battery staple"]
            {
                assert_eq!(is_password(&Secret::from(other), hash, &mut memory), Ok(false), "{other}");
            }
        }
        assert!(is_weaker(&one, Cost::DEFAULT) && !is_weaker(&one, QUICK));
    }

    /// Row 109: no truncation, not at 72 bytes, not at a NUL; one normal form.
    #[test]
    fn row_109_the_whole_password_counts_in_one_normal_form() {
        let mut memory = Memory::default();
        let mut is_same = |one: &str, two: &str| {
            let hash = hash(&normalised(&Secret::from(one)), QUICK, &mut memory).unwrap();
            is_password(&normalised(&Secret::from(two)), &hash, &mut memory).unwrap()
        };
        let long = "x".repeat(300);
        assert!(!is_same(&format!("{long}a"), &format!("{long}b")));
        assert!(!is_same("before\0after", "before\0other"));
        assert!(!is_same(" leading", "leading") && !is_same("trailing ", "trailing"));
        // NFC and NFD of the same, and a space that another keyboard makes.
        assert!(is_same("caf\u{e9} au lait", "cafe\u{301}\u{a0}au lait"));
        assert!(!is_same("caf\u{e9}", "cafe"));
        assert!(is_too_long(&Secret::new("x".repeat(LONGEST_BYTES + 1))));
        assert!(!is_too_long(&Secret::new("\u{1f511}".repeat(LONGEST_BYTES / 4))));
    }

    /// Row 112: read strictly, refused before anything is allocated.
    #[test]
    fn row_112_a_foreign_hash_is_refused_and_costs_nothing() {
        let mut memory = Memory::default();
        let salt = "c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        for wrong in [
            format!("$argon2id$v=19$m=4194304,t=2,p=1${salt}"),
            format!("$argon2id$v=19$m=8,t=4294967295,p=1${salt}"),
            format!("$argon2id$v=19$m=800,t=1,p=100${salt}"),
            format!("$argon2id$v=19$m=8,t=1,p=0${salt}"),
            format!("$argon2id$v=19$m=0,t=1,p=1${salt}"),
            format!("$argon2i$v=19$m=8,t=1,p=1${salt}"),
            format!("$argon2id$v=16$m=8,t=1,p=1${salt}"),
            format!("$argon2id$v=19$m=+8,t=1,p=1${salt}"),
            format!("$argon2id$v=19$m=8,t=1,p=1,q=1${salt}"),
            format!("$argon2id$v=19$m=8,t=1,p=1${salt}$more"),
            "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$aGFzaA".to_owned(),
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW".to_owned(),
            String::new(),
        ] {
            assert_eq!(
                is_password(&Secret::from("password"), &Hash(wrong.clone()), &mut memory),
                Err(Unusable),
                "{wrong}"
            );
        }
        assert!(memory.0.is_empty(), "nothing was allocated");
    }
}
