//! Case folding as NT does it: by single UTF-16 units and without regard to language.

use core::cmp::Ordering;
use core::hash::{Hash, Hasher};

/// A string that is compared by its folded form and remembers its spelling.
#[derive(Clone)]
pub(super) struct Folded {
    spelling: String,
    key: String,
}

impl Folded {
    pub(super) fn new(spelling: String) -> Self {
        let key = spelling.chars().map(upcase).collect();
        Self { spelling, key }
    }

    pub(super) fn spelling(&self) -> &str {
        &self.spelling
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

impl PartialEq for Folded {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Folded {}

impl PartialOrd for Folded {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Folded {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl Hash for Folded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// The upper case of one character, where NT has one.
///
/// NT's table maps one UTF-16 unit to one other. That leaves out what grows (`ß`), what lies
/// beyond the BMP, and, by choice of the table, letters that would turn into ASCII (`ı`, `ſ`) and
/// the micro sign. It is older than today's Unicode, so pairs of letters encoded since then are
/// one name here and may be two on Windows.
pub(super) fn upcase(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(up), None) if is_bmp(c) && is_bmp(up) && !up.is_ascii() && c != MICRO_SIGN => up,
        (Some(_) | None, Some(_) | None) => c,
    }
}

const fn is_bmp(c: char) -> bool {
    c.len_utf16() == 1
}

const MICRO_SIGN: char = '\u{B5}';
