//! `version`.

use serde_json::json;

use super::{CliError, Context, Exit};
use crate::supervisor::Bundled;

/// The program's version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn run(context: &Context) -> Result<Exit, CliError> {
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    let target = format!("{}-unknown-linux-{libc}", std::env::consts::ARCH);
    let features: &[&str] = if cfg!(feature = "test-support") { &["test-support"] } else { &[] };
    let nats = Bundled::get().map(|bundled| bundled.version().to_owned());
    let text = format!(
        "chatto {VERSION}\ntarget: {target}\nfeatures: {}\nnats-server: {}\n",
        if features.is_empty() { "none".to_owned() } else { features.join(", ") },
        nats.as_deref().unwrap_or("not bundled"),
    );
    let fields = json!({
        "version": VERSION,
        "target": target,
        "features": features,
        "nats_server": nats,
    });
    context.output.result(&text, fields);
    Ok(Exit::Success)
}
