//! `invite …`: unused join links.

use serde_json::{Value, json};

use super::args::InviteCommand;
use super::local::with_operations;
use super::output::{field, row, text_field};
use super::{CliError, Context, Exit};

pub(super) fn run(context: &Context, command: &InviteCommand) -> Result<Exit, CliError> {
    match command {
        InviteCommand::List(_) => {
            let found =
                with_operations(context, "invite list", |call| call("invite.list", json!({})))?;
            let links = field(&found, "links");
            let text: String = links.as_array().into_iter().flatten().map(line).collect();
            context.output.result(&text, json!({ "links": links }));
        }
        InviteCommand::Revoke(args) => {
            let params = json!({ "id": args.id });
            with_operations(context, "invite revoke", |call| {
                call("invite.revoke", params.clone())
            })?;
            context.output.note("the join link is revoked and can no longer be used");
            context.output.result(&format!("{}\n", args.id), params);
        }
    }
    Ok(Exit::Success)
}

fn line(link: &Value) -> String {
    let columns = ["id", "expires_at", "created_by", "role", "login", "display_name", "email"];
    row(columns.map(|name| text_field(link, name)))
}
