//! Cutting date and time text into fields.

/// One field, in lower case where it has letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// Digits, with one point at most: `20200102`, `1.5`, `.5`
    Number(String),
    /// Something with separators that is probably a date: `2020-01-02`, `1/2/20`, `2-jan-2020`; also a
    /// zone's name: `america/new_york`
    Date(String),
    /// Digits and colons: `12:34:56.7`
    Time(String),
    /// A word: `jan`, `bc`, `pst`
    Word(String),
    /// A sign and digits: `-05:30`, `+8`
    Signed(String),
    /// A sign and a word: `-infinity`
    SignedWord(String),
}

/// More fields than any date, time or interval has.
const FIELDS_MAX: usize = 25;
/// No sensible date or interval is longer.
const TEXT_BYTES_MAX: usize = 200;

/// A position in text.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn peek(&self) -> u8 {
        self.rest.first().copied().unwrap_or(0)
    }

    fn peek_second(&self) -> u8 {
        self.rest.get(1).copied().unwrap_or(0)
    }

    fn take_while(&mut self, field: &mut String, accepts: impl Fn(u8) -> bool) {
        while let Some((&byte, rest)) = self.rest.split_first() {
            if !accepts(byte) {
                break;
            }
            field.push(char::from(byte.to_ascii_lowercase()));
            self.rest = rest;
        }
    }
}

/// The fields of a text; `None` if a character makes no sense. `is_word` tells words that may be
/// followed by digits without becoming part of a name (`jan`, `t`).
pub(crate) fn fields(text: &str, is_word: impl Fn(&str) -> bool) -> Option<Vec<Field>> {
    if text.len() > TEXT_BYTES_MAX || !text.is_ascii() {
        return None;
    }
    let mut cursor = Cursor {
        rest: text.as_bytes(),
    };
    let mut fields = Vec::new();
    while !cursor.rest.is_empty() {
        match cursor.peek() {
            b if b.is_ascii_whitespace() || b == 0x0b => cursor.rest = &cursor.rest[1..],
            b if b.is_ascii_digit() => fields.push(digits_first(&mut cursor)),
            b'.' => {
                let mut field = String::new();
                cursor.take_while(&mut field, |b| b == b'.');
                cursor.take_while(&mut field, |b| b.is_ascii_digit());
                fields.push(Field::Number(field));
            }
            b if b.is_ascii_alphabetic() => fields.push(letter_first(&mut cursor, &is_word)),
            b'+' | b'-' => fields.push(sign_first(&mut cursor)?),
            b if b.is_ascii_punctuation() => cursor.rest = &cursor.rest[1..],
            _ => return None,
        }
        if fields.len() > FIELDS_MAX {
            return None;
        }
    }
    Some(fields)
}

fn digits_first(cursor: &mut Cursor<'_>) -> Field {
    let mut field = String::new();
    cursor.take_while(&mut field, |b| b.is_ascii_digit());
    match cursor.peek() {
        b':' => {
            cursor.take_while(&mut field, |b| {
                b.is_ascii_digit() || matches!(b, b':' | b'.')
            });
            Field::Time(field)
        }
        delimiter @ (b'-' | b'/' | b'.') => {
            field.push(char::from(delimiter));
            cursor.rest = &cursor.rest[1..];
            if !cursor.peek().is_ascii_digit() {
                // A month's name follows, or nothing does.
                cursor.take_while(&mut field, |b| b.is_ascii_alphanumeric() || b == delimiter);
                return if delimiter == b'.'
                    && field.bytes().all(|b| b != b'.' || b == delimiter)
                    && !field.bytes().any(|b| b.is_ascii_alphabetic())
                {
                    Field::Number(field)
                } else {
                    Field::Date(field)
                };
            }
            cursor.take_while(&mut field, |b| b.is_ascii_digit());
            if cursor.peek() == delimiter {
                cursor.take_while(&mut field, |b| b.is_ascii_digit() || b == delimiter);
                return Field::Date(field);
            }
            match delimiter {
                b'.' => Field::Number(field),
                _ => Field::Date(field),
            }
        }
        _ => Field::Number(field),
    }
}

fn letter_first(cursor: &mut Cursor<'_>, is_word: &impl Fn(&str) -> bool) -> Field {
    let mut field = String::new();
    cursor.take_while(&mut field, |b| b.is_ascii_alphabetic());
    let is_name = match cursor.peek() {
        b'-' | b'/' | b'.' => true,
        b'+' => !is_word(&field),
        b if b.is_ascii_digit() => !is_word(&field),
        _ => false,
    };
    if !is_name {
        return Field::Word(field);
    }
    cursor.take_while(&mut field, |b| {
        b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'/' | b'_' | b'.' | b':')
    });
    Field::Date(field)
}

fn sign_first(cursor: &mut Cursor<'_>) -> Option<Field> {
    let mut field = String::from(char::from(cursor.peek()));
    cursor.rest = &cursor.rest[1..];
    while cursor.peek().is_ascii_whitespace() {
        cursor.rest = &cursor.rest[1..];
    }
    match cursor.peek() {
        b if b.is_ascii_digit() || (b == b'.' && cursor.peek_second().is_ascii_digit()) => {
            cursor.take_while(&mut field, |b| {
                b.is_ascii_digit() || matches!(b, b':' | b'.' | b'-')
            });
            Some(Field::Signed(field))
        }
        b if b.is_ascii_alphabetic() => {
            cursor.take_while(&mut field, |b| b.is_ascii_alphabetic());
            Some(Field::SignedWord(field))
        }
        _ => None,
    }
}
