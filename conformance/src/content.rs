//! The bytes that cases write and read: literal text, or a pattern that tells its place.

use core::fmt::Write;

/// `len` bytes of the pattern, from its byte `from` on.
///
/// Bytes that are lost, doubled or out of order don't look like the pattern.
pub fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from.saturating_add(len)).map(pattern_byte).collect()
}

/// The bytes as a case would write them, or else as a beginning and a length.
pub fn show(data: &[u8]) -> String {
    if data.len() <= LITERAL {
        return literal(data);
    }
    match (0..FAR).find(|from| is_pattern(*from, data)) {
        Some(0) => format!("bytes {}", data.len()),
        Some(from) => format!("bytes {} from {from}", data.len()),
        None => {
            let (start, _) = data.split_at(LITERAL.min(data.len()));
            format!("{} and so on, {} bytes in all", literal(start), data.len())
        }
    }
}

/// The beginning of the bytes as a case would write it, and how much of them that is.
pub(crate) fn start(data: &[u8]) -> (String, usize) {
    let mut best = (0, 0);
    // Few bytes can look like the pattern by accident, and are easier to read as they are.
    if data.len() > LITERAL {
        for from in 0..FAR {
            let run = data.iter().zip(from..);
            let len = run
                .take_while(|(byte, at)| **byte == pattern_byte(*at))
                .count();
            if len > best.1 {
                best = (from, len);
            }
            if len == data.len() {
                break;
            }
        }
    }
    match best {
        (0, len) if len > LITERAL => (format!("bytes {len}"), len),
        (from, len) if len > LITERAL => (format!("bytes {len} from {from}"), len),
        _ => {
            let (few, _) = data.split_at(LITERAL.min(data.len()));
            (literal(few), few.len())
        }
    }
}

fn is_pattern(from: usize, data: &[u8]) -> bool {
    data.iter()
        .zip(from..)
        .all(|(byte, at)| *byte == pattern_byte(at))
}

/// Mixes the place into a byte, so that no short period shows.
fn pattern_byte(at: usize) -> u8 {
    let mixed = (at ^ (at >> 7)).wrapping_mul(0x9E37_79B1);
    let [_, _, byte, ..] = mixed.to_le_bytes();
    byte
}

fn literal(data: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in data {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text.push('"');
    text
}

/// Up to this length bytes are shown literally.
const LITERAL: usize = 48;
/// How far into the pattern a match is looked for.
const FAR: usize = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_tells_its_place() {
        assert_eq!(pattern(0, 300)[100..], pattern(100, 200));
        assert_ne!(pattern(0, 64), pattern(256, 64));
        assert_eq!(show(&pattern(5000, 2000)), "bytes 2000 from 5000");
        assert_eq!(show(&pattern(0, 100)), "bytes 100");
    }

    #[test]
    fn other_bytes_are_shown_literally() {
        assert_eq!(show(b"a\"\\\0"), r#""a\"\\\x00""#);
        assert!(show(&[b'a'; 100]).ends_with("and so on, 100 bytes in all"));
    }
}
