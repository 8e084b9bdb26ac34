//! Build-time part of `contract`: message types, value rules and the method table from the `.proto` files.
//!
//! protox compiles them without `protoc`. Its encoded descriptor set is decoded twice: by prost-reflect, which keeps
//! our field options, and by prost, which drops them and generates the types. The set of prost, without the rules
//! file, is kept for the tests.

use std::path::{Path, PathBuf};

use prost_reflect::DescriptorPool;
use prost_reflect::prost::Message;
use prost_types::FileDescriptorSet;

mod methods;
mod rules;
mod tables;

/// The file that declares the value rules, and the one that only it imports.
const BUILD_ONLY: [&str; 2] = ["chatto/rules/v1/rules.proto", "google/protobuf/descriptor.proto"];

pub(crate) fn generate() {
    if let Err(error) = try_generate() {
        println!("cargo::error={}", error.to_string().replace('\n', " "));
    }
}

fn try_generate() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("src/contract/proto");
    println!("cargo::rerun-if-changed={}", root.display());
    generate_into(&root, &PathBuf::from(std::env::var("OUT_DIR")?))
}

fn generate_into(root: &Path, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    proto_files(root, &mut files)?;
    files.sort();
    let encoded = protox::Compiler::new([root])?
        .include_imports(true)
        .open_files(&files)?
        .encode_file_descriptor_set();

    let pool = DescriptorPool::decode(encoded.as_slice())?;
    std::fs::write(out.join("contract_rules.rs"), rules::generate(&pool)?)?;
    std::fs::write(out.join("contract_methods.rs"), methods::generate(&pool)?)?;
    std::fs::write(out.join("contract_tables.rs"), tables::generate(&pool)?)?;

    let mut set = FileDescriptorSet::decode(encoded.as_slice())?;
    set.file.retain(|file| !BUILD_ONLY.contains(&file.name()));
    for file in &mut set.file {
        file.dependency.retain(|name| !BUILD_ONLY.contains(&name.as_str()));
    }
    std::fs::write(out.join("contract_descriptors.bin"), set.encode_to_vec())?;

    prost_build::Config::new()
        .out_dir(out)
        .include_file("contract_messages.rs")
        .enable_type_names()
        .bytes(["."])
        .btree_map(["."]) // the same message always gives the same bytes
        .compile_fds(set)?;
    Ok(())
}

fn proto_files(dir: &Path, into: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            proto_files(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            into.push(path);
        }
    }
    Ok(())
}

/// The Rust path of one of our messages, relative to the generated module.
fn rust_path(full_name: &str) -> String {
    use heck::ToUpperCamelCase;
    let (package, name) = full_name.rsplit_once('.').unwrap_or(("", full_name));
    format!("{}::{}", package.replace('.', "::"), name.to_upper_camel_case())
}
