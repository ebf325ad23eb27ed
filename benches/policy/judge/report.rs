//! The tables, and what they say of the aim.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::measures::Score;

/// One contender with one load.
pub struct Row {
    pub name: &'static str,
    pub is_peer: bool,
    pub score: Score,
    /// How its forecast was, if it has one.
    pub foresight: Option<String>,
}

pub struct Table {
    pub load: &'static str,
    /// Tables with the same contenders in the same order.
    pub part: &'static str,
    pub rows: Vec<Row>,
}

/// So much less starvation than the best peer.
const TIMES_LESS: f64 = 5.0;
const LEAST_UTILISATION: f64 = 95.0;

impl Table {
    /// Aligned, at most 132 columns wide.
    pub fn lines(&self) -> Vec<String> {
        let heading = format!(
            "{:<23} {:>5} {:>5} {:>5} {:>6} {:>5} {:>6} {:>6} {:>6} {:>8} {:>7} {:>8} {:>5} {:>6} {:>7}",
            self.load,
            "τ_U %",
            "τ_O %",
            "θ_U %",
            "θ_O %",
            "υ %",
            "jitter",
            "p50 ms",
            "p99 ms",
            "starved",
            "victims",
            "lost c·s",
            "use %",
            "work %",
            "decis."
        );
        std::iter::once(heading).chain(self.rows.iter().map(line)).collect()
    }

    /// Of each of ours, how it stands to the aim; or, where there are no peers, what a forecast brings.
    pub fn verdicts(&self) -> Vec<String> {
        let Some(best) = self.best_peer() else { return self.rows.iter().filter_map(|row| brings(row, &self.rows[0])).collect() };
        let ours = self.rows.iter().filter(|row| !row.is_peer && row.name != "oracle");
        ours.map(|row| format!("  {}", verdict(row, best))).collect()
    }

    /// The one with the least starvation; of equals, the one with the shortest waits.
    fn best_peer(&self) -> Option<&Row> {
        let rank = |row: &&Row| (row.score.starved_seconds, row.score.wait_p99_ms as f64);
        self.rows.iter().filter(|row| row.is_peer).min_by(|one, other| rank(one).partial_cmp(&rank(other)).expect("numbers"))
    }

    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| json!({"name": row.name, "peer": row.is_peer, "score": row.score}));
        json!({"load": self.load, "part": self.part, "rows": rows.collect::<Vec<_>>(), "verdicts": self.verdicts()})
    }
}

/// The tables in short, for a README: of each part, starvation and waits, and what they cost others.
pub fn markdown(tables: &[Table]) -> String {
    let mut text = String::new();
    for tables in tables.chunk_by(|one, other| one.part == other.part) {
        let part = tables[0].part;
        let starvation = |s: &Score| format!("{:.1} ({})", s.starved_seconds, s.wait_p99_ms);
        let cost = |s: &Score| format!("{}, {:.1}, {:.0}", s.victims, s.utilisation_percent, s.work_percent);
        let _ = writeln!(text, "{}", markdown_table(tables, &format!("{part}: starved s (p99 ms)"), starvation));
        let _ = writeln!(text, "{}", markdown_table(tables, &format!("{part}: victims, used %, at work %"), cost));
    }
    text
}

fn markdown_table(tables: &[Table], corner: &str, cell: impl Fn(&Score) -> String) -> String {
    let first = &tables[0];
    let line = |head: &str, cells: Vec<String>| format!("| {head} | {} |\n", cells.join(" | "));
    let heading = line(corner, first.rows.iter().map(|row| row.name.to_owned()).collect());
    let rule = format!("|-{}|\n", "|-".repeat(first.rows.len()));
    let rows = tables.iter().map(|table| line(table.load, table.rows.iter().map(|row| cell(&row.score)).collect()));
    format!("{heading}{rule}{}", rows.collect::<String>())
}

fn brings(row: &Row, without: &Row) -> Option<String> {
    let change = |of: fn(&Score) -> f64| format!("{:.1} to {:.1}", of(&without.score), of(&row.score));
    Some(format!(
        "  {}: {}; too few replicas for {} s, starved {} s; pool used {} %, at work {} %",
        row.name,
        row.foresight.as_ref()?,
        change(|score| score.short_seconds),
        change(|score| score.starved_seconds),
        change(|score| score.utilisation_percent),
        change(|score| score.work_percent),
    ))
}

fn line(row: &Row) -> String {
    let Score { wait_p50_ms, wait_p99_ms, victims, decisions, .. } = row.score;
    let s = &row.score;
    format!(
        "{:<23} {:>5.1} {:>5.1} {:>5.1} {:>6.1} {:>5.1} {:>6.1} {wait_p50_ms:>6} {wait_p99_ms:>6} {:>8.1} {victims:>7} {:>8.0} {:>5.1} {:>6.1} {decisions:>7}",
        row.name,
        s.under_time_percent,
        s.over_time_percent,
        s.under_accuracy_percent,
        s.over_accuracy_percent,
        s.instability_percent,
        s.jitter_per_minute,
        s.starved_seconds,
        s.lost_container_seconds,
        s.utilisation_percent,
        s.work_percent,
    )
}

/// Utilisation counts as it is printed: to a tenth.
fn verdict(ours: &Row, best: &Row) -> String {
    let tenths = |percent: f64| (percent * 10.0).round();
    let (own, peer) = (&ours.score, &best.score);
    let starves_less = own.starved_seconds * TIMES_LESS <= peer.starved_seconds;
    let is_used = tenths(own.utilisation_percent) >= tenths(peer.utilisation_percent);
    let is_full = own.utilisation_percent >= LEAST_UTILISATION;
    let starvation = match own.starved_seconds {
        own if own > peer.starved_seconds => format!("{} starves less: {:.2} s to {own:.2} s", best.name, peer.starved_seconds),
        own if own > 0.0 => format!("{:.1} times less starvation than {}", peer.starved_seconds / own, best.name),
        _ if peer.starved_seconds > 0.0 => format!("no starvation, {} {:.1} s", best.name, peer.starved_seconds),
        _ => format!("no starvation, nor with {}", best.name),
    };
    let all = starves_less && is_used && is_full;
    let use_of = |score: &Score| format!("{:.1} %", score.utilisation_percent);
    let word = if all { "aim met" } else { "aim missed" };
    let rest = if is_used { String::new() } else { rest(own) };
    format!("{}: {word}: {starvation}; pool used {}, {} {}{rest}", ours.name, use_of(own), best.name, use_of(peer))
}

/// What is in the places in which nothing runs.
fn rest(score: &Score) -> String {
    let Score { utilisation_percent, starting_percent, stopping_percent, .. } = *score;
    let free = 100.0 - utilisation_percent - starting_percent - stopping_percent;
    format!("; tasks start in {starting_percent:.2} %, end in {stopping_percent:.2} %, free are {free:.2} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, is_peer: bool, starved_seconds: f64, utilisation_percent: f64) -> Row {
        Row { name, is_peer, score: Score { starved_seconds, utilisation_percent, ..Score::default() }, foresight: None }
    }

    fn said(ours: (f64, f64), peers: &[(&'static str, f64, f64)]) -> String {
        let peers = peers.iter().map(|(name, starved, used)| row(name, true, *starved, *used));
        let rows = peers.chain([row("ours", false, ours.0, ours.1), row("oracle", false, 0.0, 100.0)]).collect();
        Table { load: "a", part: "own", rows }.verdicts().concat()
    }

    #[test]
    fn the_aim_is_judged_as_it_is() {
        let peers = [("slow", 50.0, 99.9), ("quick", 10.0, 99.5)];
        assert_eq!(
            said((2.0, 99.5), &peers),
            "  ours: aim met: 5.0 times less starvation than quick; pool used 99.5 %, quick 99.5 %"
        );
        assert!(said((2.1, 99.5), &peers).contains("aim missed: 4.8 times less"));
        assert!(said((0.0, 99.4), &peers).contains("aim missed: no starvation, quick 10.0 s; pool used 99.4 %"));
        assert!(said((0.0, 99.4), &peers).ends_with("tasks start in 0.00 %, end in 0.00 %, free are 0.60 %"));
        assert!(said((0.0, 94.0), &[("idle", 1.0, 50.0)]).contains("aim missed"));
        assert!(said((11.0, 99.9), &peers).contains("aim missed: quick starves less: 10.00 s to 11.00 s"));
        assert!(said((0.0, 99.9), &[("calm", 0.0, 99.9)]).contains("aim met: no starvation, nor with calm"));
    }

    #[test]
    fn what_a_forecast_brings() {
        let without = row("ours", false, 68.0, 93.8);
        let with = Row { foresight: Some("trusted".to_owned()), ..row("with", false, 9.1, 94.0) };
        let said = Table { load: "a", part: "forecast", rows: vec![without, with] }.verdicts();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("  with: trusted; too few replicas for 0.0 to 0.0 s, starved 68.0 to 9.1 s; "), "{said:?}");
    }

    #[test]
    fn in_short() {
        let table = Table { load: "a", part: "own", rows: vec![row("one", true, 1.25, 99.0), row("two", false, 0.0, 98.0)] };
        let text = markdown(&[table]);
        assert!(text.starts_with("| own: starved s (p99 ms) | one | two |\n|-|-|-|\n| a | 1.2 (0) | 0.0 (0) |\n"), "{text}");
        assert!(text.contains("| a | 0, 99.0, 0 | 0, 98.0, 0 |\n"), "{text}");
    }

    #[test]
    fn tables_are_narrow_enough() {
        let score = Score {
            lost_container_seconds: 12_345_678.0,
            starved_seconds: 4321.0,
            over_accuracy_percent: 1234.5,
            wait_p99_ms: 600_000,
            wait_p50_ms: 600_000,
            decisions: 999_999,
            ..Score::default()
        };
        let rows = vec![Row { name: "Microscaling Engine", is_peer: true, score, foresight: None }];
        let lines = Table { load: "flash crowd", part: "own", rows }.lines();
        assert!(lines.iter().all(|line| line.chars().count() <= 132), "{lines:?}");
        assert_eq!(lines[0].chars().count(), lines[1].chars().count(), "{lines:?}");
    }
}
