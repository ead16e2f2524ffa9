//! The words of a line.

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// A bare word or number.
    Word(String),
    /// Text in double quotes, its escapes replaced.
    Text(Vec<u8>),
    /// `key=value`; a value in single quotes is taken as it is.
    Pair(String, String),
    /// `->`
    Arrow,
    /// `=`
    Equals,
    /// `+`
    Plus,
}

impl Token {
    /// The token as a message speaks of it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Text(_) => "text".to_owned(),
            Self::Pair(key, _) => format!("`{key}=`"),
            Self::Arrow => "`->`".to_owned(),
            Self::Equals => "`=`".to_owned(),
            Self::Plus => "`+`".to_owned(),
        }
    }
}

/// Splits a line into its words; `//` begins a comment.
///
/// # Errors
/// What is wrong with the line.
pub(crate) fn split(line: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with("//") {
        let token;
        (token, rest) = match rest.strip_prefix('"') {
            Some(inner) => text(inner)?,
            None => word(rest)?,
        };
        if !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
            return Err(format!("expected a space behind {}", token.describe()));
        }
        tokens.push(token);
        rest = rest.trim_start();
    }
    Ok(tokens)
}

fn word(rest: &str) -> Result<(Token, &str), String> {
    if let Some((key, value)) = rest.split_once("='")
        && !key.contains(char::is_whitespace)
    {
        let (value, rest) = value.split_once('\'').ok_or("expected a closing `'`")?;
        return Ok((Token::Pair(key.to_owned(), value.to_owned()), rest));
    }
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (word, rest) = rest.split_at(end);
    let token = match (word, word.split_once('=')) {
        ("->", _) => Token::Arrow,
        ("=", _) => Token::Equals,
        ("+", _) => Token::Plus,
        (_, Some((key, value))) => Token::Pair(key.to_owned(), value.to_owned()),
        (_, None) => Token::Word(word.to_owned()),
    };
    Ok((token, rest))
}

fn text(inner: &str) -> Result<(Token, &str), String> {
    let mut bytes = Vec::new();
    let mut chars = inner.chars();
    loop {
        match chars.next().ok_or("expected a closing `\"`")? {
            '"' => return Ok((Token::Text(bytes), chars.as_str())),
            '\\' => bytes.push(escape(&mut chars)?),
            other => bytes.extend(other.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
}

fn escape(chars: &mut core::str::Chars<'_>) -> Result<u8, String> {
    match chars.next() {
        Some('n') => Ok(b'\n'),
        Some('"') => Ok(b'"'),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let digits: String = chars.by_ref().take(2).collect();
            u8::from_str_radix(&digits, 16).map_err(|_| {
                format!("expected two hexadecimal digits behind `\\x`, got `{digits}`")
            })
        }
        Some(_) | None => Err("expected `\\n`, `\\\"`, `\\\\` or `\\x00`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_into_words_and_text() {
        let tokens = split(r#"w1 = client write "a \x41\"" max=1 path='\\.\pipe\' -> + // c"#);
        let word = |text: &str| Token::Word(text.to_owned());
        let pair = |key: &str, value: &str| Token::Pair(key.to_owned(), value.to_owned());
        assert_eq!(
            tokens.unwrap(),
            [
                word("w1"),
                Token::Equals,
                word("client"),
                word("write"),
                Token::Text(b"a A\"".to_vec()),
                pair("max", "1"),
                pair("path", r"\\.\pipe\"),
                Token::Arrow,
                Token::Plus,
            ]
        );
    }

    #[test]
    fn broken_text_is_refused() {
        assert_eq!(split(r#"a "b"#).unwrap_err(), "expected a closing `\"`");
        assert_eq!(
            split(r#""a"b"#).unwrap_err(),
            "expected a space behind text"
        );
        assert!(split(r#""\q""#).is_err());
        assert!(split(r#""\xg0""#).is_err());
        assert!(split("path='a").is_err());
    }
}
