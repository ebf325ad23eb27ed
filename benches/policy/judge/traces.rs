//! Loads that were recorded, where they are at hand: in `MICROSCALER_TRACES`, or in `../shared/traces` beside the repository.
//!
//! | file | what |
//! |---|---|
//! | `wc98_per_minute.csv.gz` | requests a minute to the web site of the 1998 World Cup (M. Arlitt, T. Jin), from the Internet Traffic Archive |
//! | `nab_elb_requests_5min.csv.gz` | requests to a load balancer every five minutes, from the Numenta Anomaly Benchmark |

use std::path::{Path, PathBuf};
use std::process::Command;

use super::load::{Load, RATE_MS};
use super::shapes::PEAK;

/// All that can be read, and of the others why not.
pub fn all() -> Vec<Result<Load, String>> {
    let directory = directory();
    let of = |name, file: &str, rates: fn(Vec<(String, f64)>) -> Vec<f64>| {
        let path = directory.join(file);
        let rows = read(&path).map_err(|why| format!("{name} is left out: {}: {why}", path.display()))?;
        Ok(Load::new(name, scaled(&rates(rows)), true))
    };
    vec![of("World Cup 98", "wc98_per_minute.csv.gz", world_cup), of("ELB", "nab_elb_requests_5min.csv.gz", load_balancer)]
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

/// The two days around its peak, a minute in a second.
fn world_cup(rows: Vec<(String, f64)>) -> Vec<f64> {
    let is_within = |moment: &str| ("1998-07-06 12:00:00".."1998-07-08 12:00:00").contains(&moment);
    rows.into_iter().filter(|(moment, _)| is_within(moment)).map(|(_, count)| count).collect()
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
        let rates = scaled(&world_cup(vec![("1998-07-05 00:00:00".into(), 9.0), ("1998-07-07 00:00:00".into(), 2.0)]));
        assert_eq!(rates, [PEAK; 10]);
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert!(read(Path::new("/nonexistent/trace.csv.gz")).unwrap_err().contains("No such file"));
    }
}
