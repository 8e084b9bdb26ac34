//! Older nats-servers, built once from `tests/nats-VERSION` into the target directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The newest nats-server of a release line, `2.10` or `2.11`.
pub(crate) fn server_of(line: &str) -> PathBuf {
    // Two tests that need the same version build it once.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/nats-{line}"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nats-server-{line}"));
    if out.exists() {
        return out;
    }
    let own = out.with_extension(std::process::id().to_string());
    let built = Command::new("go")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"])
        .arg(&own)
        .arg("github.com/nats-io/nats-server/v2")
        .current_dir(module)
        .envs([("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", "-mod=readonly")])
        .output()
        .expect("this test builds an older nats-server: install Go");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::rename(own, &out).unwrap();
    out
}
