//! Sets of methods: the standard ones as bits, others by name.
//!
//! A route without `methods` takes the standard ones and nothing else, so that a method nobody thought of never reaches
//! an upstream (OWASP ASVS v5.0.0-4.1.4).
//!
//! Invariant: CONNECT and TRACE are in no set; HEAD is in every set that has GET.

use http::Method;

/// The methods that a route takes when it names none, in the order in which `Allow` lists them.
const STANDARD: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Some methods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Methods {
    /// Bit i is `STANDARD[i]`.
    standard: u8,
    others: Box<[Method]>,
}

impl Methods {
    /// Every standard method.
    pub(super) fn standard() -> Methods {
        Methods { standard: (1 << STANDARD.len()) - 1, others: Box::default() }
    }

    /// The methods with these names, and HEAD with GET.
    ///
    /// # Errors
    /// For each name that cannot be used, its place and what is wrong with it.
    pub(super) fn named(names: &[String]) -> Result<Methods, Vec<(usize, String)>> {
        let mut methods = Methods::default();
        let mut others = Vec::new();
        let mut wrong = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let upper = name.to_ascii_uppercase();
            if *name != upper {
                wrong.push((place, format!("`{name}` is not a method: methods are case-sensitive, write `{upper}`")));
                continue;
            }
            match Method::from_bytes(name.as_bytes()) {
                Err(_) => wrong.push((place, format!("`{name}` is not a method"))),
                Ok(Method::CONNECT | Method::TRACE) => {
                    wrong.push((place, format!("`{name}` is refused on every route")));
                }
                Ok(method) => match bit(&method) {
                    0 if others.contains(&method) => {}
                    0 => others.push(method),
                    bit => methods.standard |= bit,
                },
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        if methods.standard & bit(&Method::GET) != 0 {
            methods.standard |= bit(&Method::HEAD);
        }
        methods.others = others.into_boxed_slice();
        Ok(methods)
    }

    /// Whether `method` is in the set.
    pub(super) fn has(&self, method: &Method) -> bool {
        match bit(method) {
            0 => self.others.contains(method),
            bit => self.standard & bit != 0,
        }
    }

    /// Whether the sets share a method.
    pub(super) fn meets(&self, other: &Methods) -> bool {
        self.standard & other.standard != 0 || self.others.iter().any(|method| other.others.contains(method))
    }

    /// How many methods are in the set.
    pub(super) fn count(&self) -> usize {
        self.standard.count_ones() as usize + self.others.len()
    }

    /// Adds the other set's methods.
    pub(super) fn add(&mut self, other: &Methods) {
        self.standard |= other.standard;
        let new = other.others.iter().filter(|method| !self.others.contains(method));
        self.others = self.others.iter().chain(new).cloned().collect();
    }

    /// Their names, the standard ones first.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        STANDARD.iter().filter(|method| self.has(method)).chain(&self.others).map(Method::as_str)
    }

    /// The value of `Allow`.
    pub(super) fn allow(&self) -> String {
        self.names().collect::<Vec<_>>().join(", ")
    }
}

/// The bit of a standard method, 0 for any other.
fn bit(method: &Method) -> u8 {
    match *method {
        Method::GET => 1,
        Method::HEAD => 1 << 1,
        Method::POST => 1 << 2,
        Method::PUT => 1 << 3,
        Method::PATCH => 1 << 4,
        Method::DELETE => 1 << 5,
        Method::OPTIONS => 1 << 6,
        _ => 0,
    }
}
