//! `user …`: accounts.

use serde_json::{Map, Value, json};

use super::args::{UserCommand, UserCreate, UserList, UserRoleCommand, UserSetPassword};
use super::local::with_operations;
use super::output::{field, row, text_field};
use super::{CliError, Context, Exit, password, setup_link};
use crate::limits::PAGE_LIMIT_MAX;

pub(super) fn run(context: &Context, command: &UserCommand) -> Result<Exit, CliError> {
    match command {
        UserCommand::Create(args) => create(context, args),
        UserCommand::List(args) => list(context, args),
        UserCommand::SetPassword(args) => set_password(context, args),
        UserCommand::Role(args) => {
            let (login, role, action) = match &args.command {
                UserRoleCommand::Add(add) => (&add.login, &add.role, "add"),
                UserRoleCommand::Remove(remove) => (&remove.login, &remove.role, "remove"),
            };
            let params = json!({ "login": login, "role": role, "action": action });
            let account =
                with_operations(context, "user role", |call| call("user.role", params.clone()))?;
            if field(&account, "server_has_owner") == &json!(false) {
                context.output.note(
                    "the server has no owner now; `chatto setup-link` prints a link for a new one, and `chatto user \
                     role add LOGIN owner` makes an account owner",
                );
            }
            let roles = roles(&account);
            let fields = json!({ "id": field(&account, "id"), "login": field(&account, "login"), "roles": field(&account, "roles") });
            context.output.result(&format!("{}\n", roles), fields);
            Ok(Exit::Success)
        }
    }
}

fn create(context: &Context, args: &UserCreate) -> Result<Exit, CliError> {
    let mut params = Map::new();
    params.insert("link".to_owned(), args.link.into());
    for (name, value) in [
        ("login", &args.login),
        ("display_name", &args.display_name),
        ("email", &args.email),
        ("role", &args.role),
    ] {
        if let Some(value) = value {
            params.insert(name.to_owned(), value.as_str().into());
        }
    }
    if args.link {
        if args.password.is_some() || args.password_file.is_some() {
            return Err(CliError::usage(
                "--link and a password cannot be combined; the person who uses the link chooses the password",
            ));
        }
        let link = with_operations(context, "user create", |call| {
            call("user.create", params.clone().into())
        })?;
        setup_link::print(context, &link);
        return Ok(Exit::Success);
    }
    if args.login.is_none() {
        return Err(CliError::usage("`user create` needs --login or --link"));
    }
    let password = password::read(args.password.as_deref(), args.password_file.as_deref())?;
    params.insert("password".to_owned(), password.into());
    let account =
        with_operations(context, "user create", |call| call("user.create", params.clone().into()))?;
    print_account(context, &account);
    Ok(Exit::Success)
}

fn set_password(context: &Context, args: &UserSetPassword) -> Result<Exit, CliError> {
    let password = password::read(args.password.as_deref(), args.password_file.as_deref())?;
    let params = json!({ "login": args.login, "password": password });
    let account = with_operations(context, "user set-password", |call| {
        call("user.set-password", params.clone())
    })?;
    context.output.note("the password is set and all sessions of this account have ended");
    print_account(context, &account);
    Ok(Exit::Success)
}

fn print_account(context: &Context, account: &Value) {
    let text = format!("{}\t{}\n", text_field(account, "id"), text_field(account, "login"));
    let fields = json!({ "id": field(account, "id"), "login": field(account, "login") });
    context.output.result(&text, fields);
}

/// Lists all pages, or as many accounts as requested.
fn list(context: &Context, args: &UserList) -> Result<Exit, CliError> {
    let wanted = args.limit.unwrap_or(usize::MAX);
    let (users, total) = with_operations(context, "user list", |call| {
        let mut users: Vec<Value> = Vec::new();
        loop {
            let params = json!({
                "search": args.search.as_deref().unwrap_or_default(),
                "limit": PAGE_LIMIT_MAX.min(wanted.saturating_sub(users.len()).max(1)),
                "offset": args.offset.saturating_add(users.len()),
            });
            let page = call("user.list", params)?;
            let found = field(&page, "users").as_array().cloned().unwrap_or_default();
            let last = found.is_empty() || field(&page, "has_more") != &json!(true);
            users.extend(found);
            users.truncate(wanted);
            if last || users.len() >= wanted {
                return Ok((users, field(&page, "total").clone()));
            }
        }
    })?;
    let mut text = String::new();
    for user in &users {
        let mails: Vec<&str> = field(user, "emails")
            .as_array()
            .map(|mails| mails.iter().map(|mail| text_field(mail, "address")).collect())
            .unwrap_or_default();
        text.push_str(&row([
            text_field(user, "id"),
            text_field(user, "login"),
            text_field(user, "display_name"),
            &roles(user),
            &mails.join(","),
        ]));
    }
    context.output.result(&text, json!({ "users": users, "total": total }));
    Ok(Exit::Success)
}

fn roles(account: &Value) -> String {
    let roles = field(account, "roles").as_array();
    let roles: Vec<&str> =
        roles.map(|roles| roles.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
    roles.join(",")
}
