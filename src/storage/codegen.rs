//! Build-time part of `storage`: the types of stored records from `stored.v1.proto`.

use std::path::PathBuf;

pub(crate) fn generate() {
    let dir = PathBuf::from(env("CARGO_MANIFEST_DIR")).join("src/storage");
    let file = dir.join("stored.v1.proto");
    println!("cargo::rerun-if-changed={}", file.display());
    let set = match protox::compile([&file], [&dir]) {
        Ok(set) => set,
        Err(error) => stop(&format!("{error}")),
    };
    let mut config = prost_build::Config::new();
    config.out_dir(env("OUT_DIR")).bytes(["."]);
    if let Err(error) = config.compile_fds(set) {
        stop(&error.to_string());
    }
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| stop(&format!("cargo did not set {name}")))
}

fn stop(why: &str) -> ! {
    println!("cargo::error={}", why.replace('\n', " "));
    std::process::exit(1)
}
