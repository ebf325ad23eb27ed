//! The public Python client is the judge: `client.py` says what it does.

mod support;

use std::path::Path;
use std::process::Command;
use support::Rig;

fn directory() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_public_client_is_content() {
    let installed = Command::new(directory().join("install-client")).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let packages = String::from_utf8(installed.stdout).unwrap();
    let rig = Rig::start();
    let mut python = Command::new("/usr/bin/python3");
    python.arg("-B").arg(directory().join("tests/client.py")).arg(rig.marathon.url());
    let output = python.env("PYTHONPATH", packages.trim_end()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(text(&output.stdout), "content\n");
}
