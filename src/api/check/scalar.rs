//! What a plain word of YAML means: number, truth, nothing or text, by the same rules as kubectl (YAML 1.1, as go-yaml v2 reads it).

use serde_json::{Number, Value};

/// A value that JSON, and so an API server, cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadScalar {
    #[error("{0} is not a number that can be used here")]
    NotFinite(String),
    #[error("'{text}' is not of type {tag}")]
    Tag { tag: String, text: String },
}

/// The meaning of an unquoted word.
pub fn plain(text: &str) -> Result<Value, BadScalar> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" => {
            return Err(BadScalar::NotFinite(text.to_owned()));
        }
        _ => number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number),
    })
}

/// The meaning of a word with an explicit tag of YAML's own, such as `!!str 5`.
pub fn tagged(tag: &str, text: &str) -> Result<Value, BadScalar> {
    let bad = || BadScalar::Tag { tag: tag.to_owned(), text: text.to_owned() };
    match tag {
        "int" | "float" => plain(text).ok().filter(Value::is_number).ok_or_else(bad),
        "bool" => plain(text).ok().filter(Value::is_boolean).ok_or_else(bad),
        "null" => plain(text).ok().filter(Value::is_null).ok_or_else(bad),
        _ => Ok(Value::String(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let digits = text.replace('_', "");
    integer(&digits).map(Number::from).or_else(|| decimal(&digits))
}

/// Also hexadecimal, binary and octal: `014` is 12.
fn integer(text: &str) -> Option<i64> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let prefixed = |prefixes: [&str; 2]| prefixes.iter().find_map(|prefix| rest.strip_prefix(prefix));
    let (digits, radix) = if let Some(digits) = prefixed(["0x", "0X"]) {
        (digits, 16)
    } else if let Some(digits) = prefixed(["0b", "0B"]) {
        (digits, 2)
    } else if let Some(digits) = prefixed(["0o", "0O"]) {
        (digits, 8)
    } else if rest.len() > 1 && rest.starts_with('0') {
        (&rest[1..], 8)
    } else {
        (rest, 10)
    };
    // A second sign would pass the parser of the standard library.
    let well_formed = digits.starts_with(|c: char| c.is_ascii_hexdigit());
    well_formed.then(|| i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()).flatten()
}

fn decimal(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    let exponent_ok = exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)));
    let value: f64 = if mantissa_ok && exponent_ok { text.parse().ok()? } else { return None };
    whole(value).map(Number::from).or_else(|| Number::from_f64(value))
}

/// On its way through JSON, 2.0 becomes 2, a whole number.
#[allow(clippy::cast_possible_truncation)]
fn whole(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && value.abs() < 9.2e18).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_mean_what_they_mean_to_kubectl() {
        let cases = [
            ("5", json!(5)),
            ("-5", json!(-5)),
            ("+5", json!(5)),
            ("014", json!(12)),
            ("08", json!(8)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("1_000", json!(1000)),
            ("2.0", json!(2)),
            ("2.5", json!(2.5)),
            (".5", json!(0.5)),
            ("1e3", json!(1000)),
            ("1.", json!(1)),
            ("--5", json!("--5")),
            ("0x-5", json!("0x-5")),
            ("1e400", json!("1e400")),
            ("500m", json!("500m")),
            ("1.2.3", json!("1.2.3")),
            ("2001-01-01", json!("2001-01-01")),
            ("12:30", json!("12:30")),
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("yEs", json!("yEs")),
            ("~", json!(null)),
            ("", json!(null)),
            ("-", json!("-")),
            (".", json!(".")),
            ("infinity", json!("infinity")),
        ];
        for (text, meaning) in cases {
            assert_eq!(plain(text), Ok(meaning), "{text}");
        }
        assert!(plain("-.inf").is_err());
        assert_eq!(tagged("str", "5"), Ok(json!("5")));
        assert_eq!(tagged("int", "5"), Ok(json!(5)));
        assert!(tagged("int", "five").is_err());
    }
}
