//! What of the testbed works on this machine.

use crate::cgroups;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CStr;
use std::fs;
use std::io::Write;
use std::path::Path;

/// What not every machine can do. All of it needs root.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Feature {
    /// Tasks are held to their memory and share of the CPU: [`Agent::linux`](crate::Agent::linux). Mesos 1.11 knows only cgroups
    /// version 1; under version 2 the kernel does not give it these controllers.
    Limits,
    /// Container images without Docker: [`Agent::images`](crate::Agent::images). With either version of cgroups.
    Images,
    /// Docker: [`Docker::start`](crate::Docker::start). With either version of cgroups.
    Docker,
}

/// Whether this machine can do it; if not, why.
///
/// # Errors
/// In words, if it cannot.
pub fn can(feature: Feature) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("it needs root".to_owned());
    }
    match feature {
        Feature::Limits => ["freezer", "cpu", "cpuacct", "memory"].into_iter().try_for_each(can_group),
        Feature::Images => can_mount("tmpfs", c"").and_then(|()| can_freeze()),
        Feature::Docker => can_mount("tmpfs", c""),
    }
}

/// For tests: false, and a line on standard error that no harness hides, if this machine cannot do it.
#[must_use]
pub fn can_or_skip(feature: Feature, test: &str) -> bool {
    let Err(why) = can(feature) else { return true };
    // Not eprintln, which harnesses capture. Nobody can be told if it fails.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}, because {feature:?} cannot work here: {why}");
    false
}

/// Whether groups can be made in the controller's hierarchy of version 1.
fn can_group(controller: &str) -> Result<(), String> {
    let Some(hierarchy) = cgroups::hierarchy(controller) else {
        return Err(format!(
            "the {controller} controller of cgroups version 1 is not mounted, and Mesos 1.11 knows no other version \
             (boot with systemd.unified_cgroup_hierarchy=0)"
        ));
    };
    let probe = hierarchy.join(cgroups::name("microscaler-probe", &format!("{controller}-{}", std::process::id())));
    let made = fs::create_dir(&probe);
    // Two threads may try at once; either's success is enough.
    let _ = fs::remove_dir(&probe);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(format!("{}: {error}", probe.display())),
        _ => Ok(()),
    }
}

fn can_freeze() -> Result<(), String> {
    match cgroups::hierarchy("freezer") {
        Some(_) => can_group("freezer"),
        None => can_mount("cgroup", c"freezer"),
    }
}

fn can_mount(kind: &str, options: &CStr) -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    mount(kind, directory.path(), kind, MountFlags::empty(), options)
        .map_err(|error| format!("mounting a {kind} ({}) is refused: {error}", options.to_string_lossy()))?;
    unmount_probe(directory.path())
}

fn unmount_probe(directory: &Path) -> Result<(), String> {
    unmount(directory, UnmountFlags::DETACH).map_err(|error| format!("unmounting is refused: {error}"))
}
