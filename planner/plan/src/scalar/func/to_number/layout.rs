//! Templates of numbers.

use crate::error::EvalError;
use crate::scalar::func::datetime_format::Case;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// `9`
    Digit,
    /// `0`
    Zero,
    /// `.` or `D`
    Point,
    /// `,` or `G`
    Group,
    /// `L`: the currency of the locale, of which there is none.
    Currency,
    /// `MI`
    Minus,
    /// `PL`
    Plus,
    /// `SG`
    Sign,
    Ordinal(Case),
    Char(char),
}

/// Where the sign goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// In front of the first digit, a blank for plus.
    Floating,
    /// `S` first: in front of the first digit, plus as well.
    Leading,
    /// `S` last.
    Trailing,
    /// `PR`: angle brackets around negative numbers.
    Angled,
    /// `MI`, `PL` and `SG` have places of their own.
    Apart,
}

#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub items: Vec<Item>,
    /// Positions before the point.
    pub pre: usize,
    /// Positions after the point.
    pub post: usize,
    /// The position of the first `0` before the point.
    pub first_zero: Option<usize>,
    /// How many digits after the point a `0` keeps even with `FM`.
    pub fraction_kept: usize,
    /// `V`: how many digits follow, by whose power of ten the number is multiplied.
    pub shift: u32,
    pub sign: Sign,
    /// `FM`
    pub compact: bool,
    pub exponent: bool,
    pub roman: bool,
}

fn conflict(message: &str) -> EvalError {
    EvalError::new("42601", message)
}

static KEYWORDS: &[&str] = &[
    "EEEE", "FM", "MI", "PL", "PR", "RN", "SG", "TH", "S", "L", "G", "D", "V", "B", "9", "0", ".",
    ",",
];

impl Layout {
    pub fn parse(template: &str) -> Result<Layout, EvalError> {
        let mut layout = Layout {
            items: vec![],
            pre: 0,
            post: 0,
            first_zero: None,
            fraction_kept: 0,
            shift: 0,
            sign: Sign::Floating,
            compact: false,
            exponent: false,
            roman: false,
        };
        let mut rest = template;
        let (mut point, mut shifts) = (false, false);
        while let Some(c) = rest.chars().next() {
            let keyword = KEYWORDS.iter().find(|k| {
                rest.get(..k.len())
                    .is_some_and(|head| head.eq_ignore_ascii_case(k))
            });
            let Some(keyword) = keyword else {
                rest = &rest[c.len_utf8()..];
                if c == '"' {
                    let (quoted, after) = rest.split_once('"').unwrap_or((rest, ""));
                    layout.items.extend(quoted.chars().map(Item::Char));
                    rest = after;
                } else {
                    layout.items.push(Item::Char(c));
                }
                continue;
            };
            let lower = rest.starts_with(|c: char| c.is_ascii_lowercase());
            rest = &rest[keyword.len()..];
            layout.keyword(keyword, lower, &mut point, &mut shifts)?;
        }
        let plain =
            |item: &Item| matches!(item, Item::Digit | Item::Zero | Item::Point | Item::Char(_));
        if layout.exponent
            && (layout.sign != Sign::Floating || layout.compact || !layout.items.iter().all(plain))
        {
            let mut error = conflict("\"EEEE\" is incompatible with other formats");
            error.detail = Some(
                "\"EEEE\" may only be used together with digit and decimal point patterns."
                    .to_owned(),
            );
            return Err(error);
        }
        Ok(layout)
    }

    fn keyword(
        &mut self,
        keyword: &str,
        lower: bool,
        point: &mut bool,
        shifts: &mut bool,
    ) -> Result<(), EvalError> {
        match keyword {
            "9" | "0" => {
                if self.sign == Sign::Angled {
                    return Err(conflict(&format!("\"{keyword}\" must be ahead of \"PR\"")));
                }
                let zero = keyword == "0";
                if *shifts {
                    self.shift += 1;
                } else if *point {
                    self.post += 1;
                } else {
                    if zero && self.first_zero.is_none() {
                        self.first_zero = Some(self.pre);
                    }
                    self.pre += 1;
                }
                if zero && *point {
                    self.fraction_kept = self.post;
                }
                self.items.push(if zero { Item::Zero } else { Item::Digit });
            }
            "." | "D" => {
                if *point {
                    return Err(conflict("multiple decimal points"));
                }
                if *shifts {
                    return Err(conflict("cannot use \"V\" and decimal point together"));
                }
                *point = true;
                self.items.push(Item::Point);
            }
            "," | "G" => self.items.push(Item::Group),
            "L" => self.items.push(Item::Currency),
            "FM" => self.compact = true,
            "S" => {
                if self.sign == Sign::Leading || self.sign == Sign::Trailing {
                    return Err(conflict("cannot use \"S\" twice"));
                }
                if self.sign != Sign::Floating {
                    return Err(conflict(
                        "cannot use \"S\" and \"PL\"/\"MI\"/\"SG\"/\"PR\" together",
                    ));
                }
                let digits = self.pre + self.post > 0;
                self.sign = if digits {
                    Sign::Trailing
                } else {
                    Sign::Leading
                };
            }
            "MI" | "PL" | "SG" => {
                if self.sign == Sign::Leading || self.sign == Sign::Trailing {
                    return Err(conflict(&format!(
                        "cannot use \"S\" and \"{keyword}\" together"
                    )));
                }
                // PL alone shows only plus signs; a minus still goes before the digits.
                if keyword != "PL" {
                    self.sign = Sign::Apart;
                }
                self.items.push(match keyword {
                    "MI" => Item::Minus,
                    "PL" => Item::Plus,
                    _ => Item::Sign,
                });
            }
            "PR" => {
                if self.sign != Sign::Floating {
                    return Err(conflict(
                        "cannot use \"PR\" and \"S\"/\"PL\"/\"MI\"/\"SG\" together",
                    ));
                }
                self.sign = Sign::Angled;
            }
            "TH" => self
                .items
                .push(Item::Ordinal(if lower { Case::Lower } else { Case::Upper })),
            "V" => {
                if *point {
                    return Err(conflict("cannot use \"V\" and decimal point together"));
                }
                *shifts = true;
            }
            "RN" => self.roman = true,
            "EEEE" => self.exponent = true,
            // B is accepted and changes nothing.
            _ => {}
        }
        Ok(())
    }
}
