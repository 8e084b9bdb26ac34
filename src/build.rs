//! The package's one build script: message types of the contract and of stored records, the bundled
//! nats-server, and the embedded web pages. Each part lives beside the module that uses its output.

#[path = "contract/codegen/mod.rs"]
mod contract;
#[path = "storage/codegen.rs"]
mod storage;
#[path = "supervisor/embed.rs"]
mod supervisor;
#[path = "web/embed.rs"]
mod web;

fn main() {
    // See `test_build.rs`.
    println!("cargo::rerun-if-env-changed=CHATTO_TEST_BUILD");
    println!("cargo::rustc-check-cfg=cfg(chatto_test_build)");
    if std::env::var("CHATTO_TEST_BUILD").as_deref() == Ok("1") {
        println!("cargo::rustc-cfg=chatto_test_build");
    }
    contract::generate();
    storage::generate();
    supervisor::embed();
    web::embed();
}
