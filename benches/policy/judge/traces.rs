//! Loads that were recorded, where they are at hand: in `MICROSCALER_TRACES`, or in `../shared/traces` beside the repository.
//!
//! | file | what |
//! |---|---|
//! | `wc98_per_minute.csv.gz` | requests a minute to the web site of the 1998 World Cup (M. Arlitt, T. Jin), from the Internet Traffic Archive |
//! | `nab_elb_requests_5min.csv.gz` | requests to a load balancer every five minutes, from the Numenta Anomaly Benchmark |

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::load::{Load, RATE_MS};
use super::shapes::PEAK;

const WORLD_CUP: &str = "wc98_per_minute.csv.gz";

/// All that can be read, and of the others why not.
pub fn all() -> Vec<Result<Load, String>> {
    vec![
        of("World Cup 98", WORLD_CUP, |rows| within(rows, "1998-07-06 12:00:00".."1998-07-08 12:00:00")),
        of("ELB", "nab_elb_requests_5min.csv.gz", load_balancer),
    ]
}

/// One that comes round: a week with matches on every day.
pub fn week() -> Result<Load, String> {
    of("World Cup, a week", WORLD_CUP, |rows| within(rows, "1998-06-16 12:00:00".."1998-06-23 12:00:00"))
}

fn of(name: &'static str, file: &str, rates: fn(Vec<(String, f64)>) -> Vec<f64>) -> Result<Load, String> {
    let path = directory().join(file);
    let rows = read(&path).map_err(|why| format!("{name} is left out: {}: {why}", path.display()))?;
    Ok(Load::new(name, scaled(&rates(rows)), true))
}

fn directory() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/traces");
    std::env::var_os("MICROSCALER_TRACES").map_or_else(beside, PathBuf::from)
}

/// Rows of a moment and a count, without the heading.
fn read(path: &Path) -> Result<Vec<(String, f64)>, String> {
    std::fs::metadata(path).map_err(|error| error.to_string())?;
    let output = Command::new("gzip").arg("-dc").arg(path).output().map_err(|error| format!("gzip: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let text = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    text.lines().skip(1).map(|line| row(line).ok_or_else(|| format!("not a moment and a count: {line:?}"))).collect()
}

fn row(line: &str) -> Option<(String, f64)> {
    let (moment, count) = line.split_once(',')?;
    Some((moment.to_owned(), count.trim().parse().ok()?))
}

/// Part of the minutes, one in a second: the two days around the peak, say.
fn within(rows: Vec<(String, f64)>, when: Range<&str>) -> Vec<f64> {
    rows.into_iter().filter(|(moment, _)| when.contains(&moment.as_str())).map(|(_, count)| count).collect()
}

/// All of it, five minutes in a second.
fn load_balancer(rows: Vec<(String, f64)>) -> Vec<f64> {
    rows.into_iter().map(|(_, count)| count).collect()
}

/// A count for each second, so that the largest is what the pool is made for.
fn scaled(counts: &[f64]) -> Vec<f64> {
    let most = counts.iter().copied().fold(1.0, f64::max);
    counts.iter().flat_map(|count| std::iter::repeat_n(count / most * PEAK, (1000 / RATE_MS) as usize)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read() {
        assert_eq!(row("1998-07-07 21:41:00,229426"), Some(("1998-07-07 21:41:00".to_owned(), 229_426.0)));
        assert_eq!((row("period"), row("a,b")), (None, None));
        let rows = vec![("1998-07-05 00:00:00".into(), 9.0), ("1998-07-07 00:00:00".into(), 2.0)];
        let rates = scaled(&within(rows, "1998-07-06 12:00:00".."1998-07-08 12:00:00"));
        assert_eq!(rates, [PEAK; 10]);
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert!(read(Path::new("/nonexistent/trace.csv.gz")).unwrap_err().contains("No such file"));
    }
}
