//! What the figures were measured on.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::options::Options;

/// Prints the machine and the versions, and answers the same for the JSON.
pub(crate) fn describe(options: &Options) -> Value {
    std::fs::create_dir_all(&options.dir).unwrap();
    let about = json!({
        "processor": processor(),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "memory_mib": chatto::supervisor::memory_bytes() >> 20,
        "kernel": said("uname", &["-sr"]),
        "file_system": said("stat", &["-f", "-c", "%T", &options.dir.to_string_lossy()]),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "server": options.server.to_string_lossy(),
        "versions": said(&options.server.to_string_lossy(), &["version"]).replace('\n', ", "),
        "rustc": said("rustc", &["--version"]),
        "command": command(),
        "messages": options.messages,
        "users": options.users,
        "file_bytes": options.file_bytes,
        "small_files": options.small_files,
        "seaweedfs": first_line(&said("weed", &["version"])),
        "rclone": first_line(&said("rclone", &["version"])),
        "seconds": options.run.as_secs(),
        "runs": options.runs,
        "load_generator": "on the same machine",
    });
    for (name, value) in about.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        println!("{name:<16} {text}");
    }
    println!("\nThe load generator runs on the same machine and takes its share of the cores.");
    println!(
        "The store has threads, which calls do not show yet; notifications are not built yet."
    );
    about
}

fn processor() -> String {
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}

/// The environment's choices in front of the command.
fn command() -> String {
    let mut chosen: Vec<String> = std::env::vars()
        .filter(|(name, _)| name.starts_with("CHATTO_BENCH"))
        .map(|(name, value)| format!("{name}={value:?} "))
        .collect();
    chosen.sort();
    format!("{}make bench", chosen.concat())
}

fn read(path: &str) -> String {
    let text = std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    if text.is_empty() { "unknown".to_owned() } else { text.trim().to_owned() }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}
