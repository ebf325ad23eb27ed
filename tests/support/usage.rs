//! What a process uses, as the kernel counts it.

/// Processor time so far, in seconds.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    // USER_HZ is 100 on every Linux.
    ticks / 100.0
}

/// Resident memory.
pub fn memory_mebibytes(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Lets everybody else on this machine go first, at any moment (SCHED_IDLE; to be nice would not keep others from waiting out a slice).
/// What the process starts later inherits it.
pub fn yield_to_others(pid: u32) {
    let status = std::process::Command::new("chrt").args(["--all-tasks", "--idle", "--pid", "0", &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

/// The machine's load averages, as the kernel writes them.
pub fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

/// A file for the results of a bench.
pub fn result_path(name: &str) -> std::path::PathBuf {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&directory).unwrap();
    directory.join(name)
}
