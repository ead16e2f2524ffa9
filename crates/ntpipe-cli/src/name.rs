//! Names on the command line, and text from elsewhere on the terminal.

use std::borrow::Cow;
use std::time::Duration;

use ntpipe::PipeName;

/// Parses a name in any spelling; for clap.
pub(crate) fn parse(text: &str) -> Result<PipeName, String> {
    PipeName::parse_lenient(text).map_err(|error| {
        let hint = if text.starts_with('\\') {
            r"the shell may have eaten backslashes: put the name in quotes, '\\.\pipe\x', or write x"
        } else {
            r"write x, '\\.\pipe\x', //./pipe/x or npipe:////./pipe/x; 256 characters at most"
        };
        format!("{error}\nhint: {hint}")
    })
}

/// Parses a number of seconds, such as `2` or `0.5`; for clap.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Makes control characters visible, so that a name can't command the terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|c| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    });
    Cow::Owned(escaped.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_names_the_same_pipe() {
        let spellings = [
            "x",
            "X",
            r"\\.\pipe\x",
            "//./pipe/x",
            "npipe:////./pipe/x",
            r"\\?\pipe\x",
        ];
        for spelling in spellings {
            assert_eq!(parse(spelling).unwrap().folded(), "X", "{spelling}");
        }
    }

    #[test]
    fn a_name_without_its_backslashes_gets_a_hint() {
        let message = parse(r"\.pipex").unwrap_err();
        assert!(message.contains("ERROR_INVALID_NAME (123)"), "{message}");
        assert!(message.contains("in quotes"), "{message}");
    }

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(printable("plain ß"), "plain ß");
        assert_eq!(printable("a\u{1b}[2Jb\n"), r"a\u{1b}[2Jb\n");
    }
}
