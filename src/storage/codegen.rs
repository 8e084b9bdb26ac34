//! Build-time part of `storage`: the types of stored records from `stored.v1.proto`.

use std::path::PathBuf;

pub(crate) fn generate() {
    if let Err(error) = try_generate() {
        println!("cargo::error={}", error.to_string().replace('\n', " "));
    }
}

fn try_generate() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("src/storage");
    let file = dir.join("stored.v1.proto");
    println!("cargo::rerun-if-changed={}", file.display());
    let set = protox::compile([&file], [&dir])?;
    let mut config = prost_build::Config::new();
    config.out_dir(std::env::var("OUT_DIR")?).bytes(["."]);
    config.compile_fds(set)?;
    Ok(())
}
