//! Amounts in all the forms in which Kubernetes writes them.

/// Suffixes of ten and of two, and the power that each stands for.
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, i32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// The number that a quantity stands for (`resource.Quantity` of Kubernetes): `-1.5`, `500m`, `2Ki`, `12e3`, `1E`.
pub fn number(text: &str) -> Option<f64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').map_or(0, |last| last + 1);
    let (number, suffix) = text.split_at(end);
    let only = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | 'e' | 'E');
    let number: f64 = number.chars().all(only).then(|| number.parse().ok())??;
    let find = |table: &[(&str, i32)]| table.iter().find(|(known, _)| *known == suffix).map(|(_, power)| *power);
    match (find(&DECIMAL), find(&BINARY)) {
        // Divided rather than multiplied by a fraction, which would not be exact.
        (Some(power), _) if power < 0 => Some(number / 10_f64.powi(-power)),
        (Some(power), _) => Some(number * 10_f64.powi(power)),
        (None, Some(power)) => Some(number * 2_f64.powi(power)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn all_forms_are_read() {
        let forms = [
            ("0", 0.0),
            ("+3", 3.0),
            ("-1.5", -1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1500m", 1.5),
            ("3u", 3e-6),
            ("7n", 7e-9),
            ("2k", 2000.0),
            ("1.5Gi", 1.5 * 1024.0 * 1024.0 * 1024.0),
            ("1E", 1e18),
            ("1Ei", 1_152_921_504_606_846_976.0),
            ("12e3", 12_000.0),
            ("12E-3", 0.012),
        ];
        for (text, expected) in forms {
            assert_eq!(number(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "m", "1K", "1ki", "one", "1 k", "1..2", "NaN", "inf", "0x10", "--1", "."] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
