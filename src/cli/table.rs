//! Tables as kubectl prints them.

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;

/// Lines of columns that stand two spaces apart, without trailing blanks. (kubectl has three; with two, our widest table fits a terminal
/// of 80 columns.)
#[must_use]
pub fn render(header: Option<&[&str]>, rows: &[Vec<String>]) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(header) = header {
        table.add_row(header.iter().copied());
    }
    table.add_rows(rows.iter().cloned());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// The lines as one text, each two columns in.
#[must_use]
pub fn indented(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + "  " + line + "\n")
}

/// An age as kubectl shows it: `45s`, `3m12s`, `5h`, `2d`.
#[must_use]
pub fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    let Some(since) = since else { return "<unknown>".to_owned() };
    duration(now.duration_since(since).as_secs())
}

/// A number of seconds as kubectl shows it.
#[must_use]
pub fn duration(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..120 => format!("{s}s"),
        s @ 120..600 if s % 60 != 0 => format!("{}m{}s", s / 60, s % 60),
        s @ 120..7200 => format!("{}m", s / 60),
        s @ 7200..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["search".to_owned(), "1".to_owned()], vec!["b".to_owned(), "12".to_owned()]];
        assert_eq!(render(Some(&["NAME", "PRIORITY"]), &rows), ["NAME    PRIORITY", "search  1", "b       12"]);
    }

    #[test]
    fn ages_read_as_in_kubectl() {
        assert_eq!([0, 119, 125, 180, 3600, 7200, 200_000].map(duration), ["0s", "119s", "2m5s", "3m", "60m", "2h", "2d"]);
    }
}
