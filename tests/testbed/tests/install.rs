//! The install script finds what an earlier run has made.

use microscaler_testbed::install;
use std::process::Command;

#[test]
fn a_second_run_gives_the_same_directory_and_changes_nothing() {
    let first = install(None).unwrap();
    let programs = ["bin/mesos-master", "bin/mesos-agent", "bin/bare-executor", "bin/testbed-reaper"];
    let of_agent = ["mesos-containerizer", "mesos-executor", "mesos-docker-executor", "mesos-fetcher"]
        .map(|name| format!("launcher/{name}"));
    for program in programs.map(ToOwned::to_owned).into_iter().chain(of_agent) {
        assert!(first.join(&program).is_file(), "{program}");
    }
    let made = first.metadata().unwrap().modified().unwrap();

    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/mesos/install")).output().unwrap();

    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), first.to_str().unwrap());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "nothing is made again");
    assert_eq!(first.metadata().unwrap().modified().unwrap(), made);
}
