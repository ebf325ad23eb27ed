//! Logs of tasks are kept in bounds: what is too long is copied to `.1`, and cut to nothing where it is, since the task holds it open.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use super::sandbox::LOGS;

/// Files that have not grown are looked at once in so many rounds.
const PATIENCE: u32 = 16;

/// How a task's logs were last seen.
#[derive(Debug, Default)]
pub struct Growth {
    lengths: [u64; LOGS.len()],
    is_quiet: bool,
}

impl Growth {
    /// Rotates the logs in the directory that are longer than `most`. Those that have not grown of late are passed by in most rounds.
    pub fn look(&mut self, directory: &Path, most: u64, round: u32) {
        if self.is_quiet && !round.is_multiple_of(PATIENCE) {
            return;
        }
        self.is_quiet = true;
        for (name, last) in LOGS.iter().zip(&mut self.lengths) {
            let path = directory.join(name);
            // Without the file, there is nothing to be kept in bounds.
            let length = fs::metadata(&path).map_or(0, |data| data.len());
            self.is_quiet &= length == *last;
            *last = length;
            if length > most {
                *last = 0;
                let result = rotate(&path);
                let path = path.display();
                result.unwrap_or_else(|error| tracing::warn!(%path, %error, "a log cannot be rotated"));
            }
        }
    }
}

/// What is written between the last copy and the cut is lost; so it is copied until there is little of it.
fn rotate(path: &Path) -> io::Result<()> {
    const CATCH_UPS: usize = 3;
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    let (mut from, mut to) = (File::options().read(true).write(true).open(path)?, File::create(name)?);
    let mut copied = 0;
    for _ in 0..CATCH_UPS {
        from.seek(SeekFrom::Start(copied))?;
        // In the kernel, where the file system can.
        let more = io::copy(&mut from, &mut to)?;
        copied += more;
        if more == 0 {
            break;
        }
    }
    from.set_len(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_long_log_is_rotated_under_its_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stdout");
        let mut writer = File::options().create(true).append(true).open(&path).unwrap();
        let mut growth = Growth::default();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        writer.write_all(b"0123456789").unwrap();
        growth.look(directory.path(), 10, 1);
        assert_eq!(read("stdout"), "0123456789");
        writer.write_all(b"!").unwrap();
        growth.look(directory.path(), 10, 2);
        assert_eq!((read("stdout").as_str(), read("stdout.1").as_str()), ("", "0123456789!"));
        writer.write_all(b"more").unwrap();
        assert_eq!(read("stdout"), "more");
    }

    #[test]
    fn quiet_logs_are_passed_by() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stderr");
        fs::write(&path, "a").unwrap();
        let mut growth = Growth::default();
        growth.look(directory.path(), 2, 1);
        growth.look(directory.path(), 2, 2);
        fs::write(&path, "long").unwrap();
        growth.look(directory.path(), 2, 3);
        assert_eq!(fs::read_to_string(&path).unwrap(), "long");
        growth.look(directory.path(), 2, PATIENCE);
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
