//! Whether this process may believe its environment.
#![allow(unsafe_code)]

/// Whether the program has more rights than who started it, as with a set-user-ID bit: then its
/// environment is the word of a stranger.
pub(crate) fn is_set_id() -> bool {
    // SAFETY: it takes any number, and only looks at what the kernel gave the process.
    let secure = unsafe { libc::getauxval(libc::AT_SECURE) };
    secure != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_has_the_rights_of_who_runs_it() {
        assert!(!is_set_id());
    }
}
