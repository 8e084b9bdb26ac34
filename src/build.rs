//! The package's one build script: message types of the contract and of stored records, the bundled
//! nats-server, and the embedded web pages. Each part lives beside the module that uses its output.

#[path = "contract/codegen/mod.rs"]
mod contract;
#[path = "storage/codegen.rs"]
mod storage;
#[path = "supervisor/embed.rs"]
mod supervisor;

fn main() {
    contract::generate();
    storage::generate();
    supervisor::embed();
}
