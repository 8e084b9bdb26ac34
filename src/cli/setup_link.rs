//! `setup-link`.

use serde_json::{Value, json};

use super::local::with_operations;
use super::{CliError, Context, Exit};

pub(super) fn run(context: &Context) -> Result<Exit, CliError> {
    let link = with_operations(context, "setup-link", |call| call("setup-link", json!({})))?;
    print(context, &link);
    Ok(Exit::Success)
}

/// A link's address on a line of its own.
pub(super) fn print(context: &Context, link: &Value) {
    let text = |name: &str| link.get(name).and_then(Value::as_str).unwrap_or_default();
    let (url, expires) = (text("url"), text("expires_at"));
    context.output.note(&format!("valid until {expires} for one use"));
    context.output.result(&format!("{url}\n"), json!({ "url": url, "expires_at": expires }));
}
