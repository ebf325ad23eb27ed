//! `microscaler check`: the verdict of an API server on manifests, without one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::api::check::{Checked, Checker, Kind, Object, Problem};
use crate::api::validated::Key;
use crate::store::directory::manifests;

/// Check manifests as a Kubernetes API server would, without one.
///
/// Each problem is a line on standard output, FILE:LINE: FIELD: MESSAGE; notes and a summary go to standard error.
/// Exit codes: 0 when all is well, 1 on any problem, 2 when a file cannot be read.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  microscaler check manifests/demo
  microscaler check shop.yaml prices.yaml
  helm template shop | microscaler check -")]
pub struct Args {
    /// Files, directories (their .yaml, .yml and .json files, and those of the directories in them) or - for standard input.
    #[arg(required = true, value_name = "FILE|DIR|-")]
    pub paths: Vec<PathBuf>,
}

const PROBLEMS: u8 = 1;
const UNREADABLE: u8 = 2;

/// # Errors
/// When standard output is gone.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut input = Input::default();
    args.paths.iter().for_each(|path| input.take(path));
    let verdict = judge(&input.files);

    let mut lines = String::new();
    for problem in &verdict.problems {
        writeln!(lines, "{problem}")?;
    }
    std::io::stdout().write_all(lines.as_bytes())?;
    for unreadable in &input.unreadable {
        anstream::eprintln!("error: {unreadable}");
    }
    for note in &verdict.notes {
        anstream::eprintln!("note: {note}");
    }
    anstream::eprintln!("{}", verdict.summary(input.files.len()));

    Ok(match (input.unreadable.is_empty(), verdict.problems.is_empty()) {
        (false, _) => ExitCode::from(UNREADABLE),
        (true, false) => ExitCode::from(PROBLEMS),
        (true, true) => ExitCode::SUCCESS,
    })
}

/// The texts to check, and what could not be read.
#[derive(Default)]
struct Input {
    files: Vec<(PathBuf, Vec<u8>)>,
    unreadable: Vec<String>,
}

impl Input {
    fn take(&mut self, path: &Path) {
        if path.as_os_str() == "-" {
            let mut text = Vec::new();
            let read = std::io::stdin().read_to_end(&mut text).map(|_| text);
            self.file(PathBuf::from("<stdin>"), read);
        } else if path.is_dir() {
            self.directory(path);
        } else {
            self.file(path.to_owned(), std::fs::read(path));
        }
    }

    fn directory(&mut self, directory: &Path) {
        match manifests(directory) {
            Ok(found) => found.into_keys().for_each(|path| {
                let read = std::fs::read(&path);
                self.file(path, read);
            }),
            Err(error) => self.unreadable.push(format!("cannot read {}: {error}", directory.display())),
        }
    }

    fn file(&mut self, path: PathBuf, read: std::io::Result<Vec<u8>>) {
        match read {
            Ok(text) => self.files.push((path, text)),
            Err(error) => self.unreadable.push(format!("cannot read {}: {error}", path.display())),
        }
    }
}

/// The verdict on all files together.
#[derive(Debug, Default)]
struct Verdict {
    objects: usize,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

impl Verdict {
    fn summary(&self, files: usize) -> String {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let Self { objects, problems, .. } = self;
        format!("{}, {}, {}", count(files, "file"), count(*objects, "object"), count(problems.len(), "problem"))
    }
}

fn judge(files: &[(PathBuf, Vec<u8>)]) -> Verdict {
    let checker = Checker::new();
    let mut verdict = Verdict::default();
    let mut all = Vec::new();
    for (file, bytes) in files {
        let Checked { objects, problems, notes } = match std::str::from_utf8(bytes) {
            Ok(text) => checker.check(file, text),
            Err(error) => Checked { problems: vec![not_text(file, bytes, error.valid_up_to())], ..Checked::default() },
        };
        verdict.objects += objects.len();
        verdict.problems.extend(problems);
        verdict.notes.extend(notes);
        all.extend(objects.into_iter().map(|(line, object)| (file.as_path(), line, object)));
    }
    verdict.problems.extend(doubles(&all));
    // A problem of its own may be why a pool is missing, and then a note about it would mislead.
    if verdict.problems.is_empty() {
        verdict.notes.extend(without_pool(&all));
    }
    verdict
}

fn not_text(file: &Path, bytes: &[u8], valid: usize) -> Problem {
    let line = 1 + bytes.iter().take(valid).filter(|byte| **byte == b'\n').count();
    let message = "not text in UTF-8".to_owned();
    Problem { file: file.to_owned(), line, field: String::new(), message, about: None }
}

type Found<'f> = (&'f Path, usize, Object);

/// Applied one after the other, the later would silently replace the earlier.
fn doubles(all: &[Found<'_>]) -> Vec<Problem> {
    let mut first: BTreeMap<(Kind, &Key), (&Path, usize)> = BTreeMap::new();
    let mut problems = Vec::new();
    for (file, line, object) in all {
        let (kind, key) = (object.kind(), object.key());
        if let Some((first_file, first_line)) = first.get(&(kind, key)) {
            let message = format!("{kind} {key} is already in {}:{first_line}", first_file.display());
            let about = Some((kind, key.clone()));
            problems.push(Problem { file: file.to_path_buf(), line: *line, field: "metadata.name".to_owned(), message, about });
        } else {
            first.insert((kind, key), (file, *line));
        }
    }
    problems
}

fn without_pool(all: &[Found<'_>]) -> Vec<String> {
    let is_here = |wanted: &Key| all.iter().any(|(_, _, object)| object.kind() == Kind::Pool && object.key() == wanted);
    let lonely = |(file, line, object): &Found<'_>| match object {
        Object::App(_, app) if !is_here(&app.pool) => {
            Some(format!("{}:{line}: spec.pool: pool {} of app {} is in none of these files", file.display(), app.pool, app.key))
        }
        _ => None,
    };
    all.iter().filter_map(lonely).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str, pool: &str) -> Vec<u8> {
        format!(
            "apiVersion: microscaling.dev/v1alpha1\nkind: MicroscaledApp\nmetadata: {{name: {name}}}\nspec:\n  pool: {pool}\n  \
             template: {{resources: {{cpu: 1, memory: 32Mi}}, shell: sleep 1}}\n"
        )
        .into_bytes()
    }

    #[test]
    fn the_same_name_in_two_files_is_a_problem_and_a_missing_pool_a_note() {
        let verdict = judge(&[("a.yaml".into(), app("search", "x")), ("b.yaml".into(), app("search", "x"))]);
        let problems: Vec<_> = verdict.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, ["b.yaml:1: metadata.name: MicroscaledApp default/search is already in a.yaml:1"]);
        assert_eq!(verdict.summary(2), "2 files, 2 objects, 1 problem");

        let verdict = judge(&[("a.yaml".into(), app("search", "x"))]);
        assert!(verdict.problems.is_empty());
        assert_eq!(verdict.notes, ["a.yaml:1: spec.pool: pool default/x of app default/search is in none of these files"]);
    }

    #[test]
    fn what_is_no_text_is_a_problem_with_a_line() {
        let verdict = judge(&[("a.yaml".into(), b"a: 1\nb: \xff\n".to_vec())]);
        assert_eq!(verdict.problems[0].to_string(), "a.yaml:2: not text in UTF-8");
    }
}
