//! `status`: shows the state of the running server.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::args::Status;
use super::output::field;
use super::{CliError, Context, Exit, local};
use crate::config::Purpose;
use crate::observe::{binary_size, counted};

pub(super) fn run(context: &Context, args: &Status) -> Result<Exit, CliError> {
    match report(context) {
        Ok(report) => {
            let ready = field(&report, "ready") == &json!(true);
            if !args.ready {
                context.output.result(&text(&report), report.clone());
            }
            Ok(if ready { Exit::Success } else { Exit::Failed })
        }
        Err(error) if args.ready && error.exit != Exit::Config => Ok(error.exit),
        Err(error) => Err(error),
    }
}

fn report(context: &Context) -> Result<Value, CliError> {
    let settings = context.load(Purpose::Local)?.settings;
    let Some(client) = local::running(&settings)? else {
        let place = match &settings.operator_socket {
            Some(path) => format!("no server is listening at {}", path.display()),
            None => "operator_api.enabled is false, so the server cannot be reached".to_owned(),
        };
        return Err(CliError::new(Exit::Unreachable, place));
    };
    Ok(client.call("status", json!({}))?)
}

fn text(report: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{:12}{value}", format!("{name}:")).ok();
    };
    let state = match field(report, "reason") {
        Value::String(reason) => format!("not ready ({reason})"),
        _ => "ready".to_owned(),
    };
    line("state", state);
    line("version", format!("{} (pid {})", shown(field(report, "version")), field(report, "pid")));
    line("uptime", format!("{} s", field(report, "uptime_seconds")));
    line("listening", shown(field(report, "listen")));
    line("clients", shown(field(report, "clients")));
    line("users", shown(field(report, "users")));
    let nats = field(report, "nats");
    let connected =
        if field(nats, "connected") == &json!(true) { "connected" } else { "not connected" };
    let restarts = field(nats, "restarts").as_u64().filter(|restarts| *restarts > 0);
    let restarts = restarts.map(|n| format!(", restarted {n} times")).unwrap_or_default();
    line(
        "nats",
        format!(
            "{} {}, {connected}{restarts}",
            shown(field(nats, "mode")),
            shown(field(nats, "version"))
        ),
    );
    if let Value::Object(disk) = field(report, "disk") {
        let size =
            |name: &str| binary_size(disk.get(name).and_then(Value::as_u64).unwrap_or_default());
        line("disk", format!("{} free, {} kept free", size("free_bytes"), size("floor_bytes")));
        let store = format!("{} of at most {}", size("store_bytes"), size("store_limit_bytes"));
        line("store", store);
    }
    if let Value::Object(_) = field(report, "s3") {
        line("s3", s3(field(report, "s3")));
    }
    for value in backups(field(report, "backups")) {
        line("backup", value);
    }
    line("keys", keys_text(field(report, "keys")));
    for notice in field(field(report, "backups"), "notices").as_array().into_iter().flatten() {
        line("to do", shown(notice));
    }
    for value in streams(report) {
        line("stream", value);
    }
    for held in field(report, "held_rooms").as_array().into_iter().flatten() {
        line(
            "held",
            format!("room {}: {}", shown(field(held, "room")), shown(field(held, "reason"))),
        );
    }
    for difference in field(report, "differences").as_array().into_iter().flatten() {
        line("differs", shown(difference));
    }
    for error in field(report, "recent_errors").as_array().into_iter().flatten() {
        line("error", shown(error));
    }
    text
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

/// The streams of the store.
fn streams(report: &Value) -> Vec<String> {
    let configured = field(field(report, "nats"), "replicas_configured");
    let text = |stream: &Value| {
        let replicas = field(stream, "replicas");
        let drift = if replicas == configured { "" } else { " (differs from nats.replicas)" };
        let bytes = binary_size(field(stream, "bytes").as_u64().unwrap_or_default());
        format!(
            "{} {} messages, {bytes}, replicas {replicas}{drift}",
            shown(field(stream, "name")),
            field(stream, "messages")
        )
    };
    field(report, "streams").as_array().into_iter().flatten().map(text).collect()
}

/// How backups ended: the last verified one, the last that failed, and the last restore test.
fn backups(backups: &Value) -> Vec<String> {
    if backups.is_null() {
        return vec!["unknown, as the store does not reply".to_owned()];
    }
    let late = if field(backups, "late") == &json!(true) { "; late" } else { "" };
    let verified = match field(backups, "last_verified") {
        Value::Null => format!("never verified{late}"),
        backup => format!("last verified {}{late}", backup_text(backup)),
    };
    let mut lines = vec![verified];
    let more = [("last failed", "last_failed"), ("last restore test", "last_restore_test")];
    for (what, name) in more {
        let backup = field(backups, name);
        if !backup.is_null() {
            lines.push(format!("{what} {}", backup_text(backup)));
        }
    }
    lines
}

/// When, where, and what went wrong.
fn backup_text(backup: &Value) -> String {
    let text = |name: &str| field(backup, name).as_str().unwrap_or_default();
    let place = match text("kind") {
        "stick" => format!("stick {}", text("place")),
        _ => text("place").to_owned(),
    };
    let verdict = match text("verdict") {
        "verified" => String::new(),
        verdict => format!(" ({verdict})"),
    };
    let reason = match text("reason") {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    format!("{}, {place}{verdict}{reason}", text("time"))
}

/// Whether a key export holds all keys.
fn keys_text(keys: &Value) -> String {
    if keys.is_null() {
        return "unknown, as the store does not reply".to_owned();
    }
    let exported = match field(keys, "exported") {
        Value::String(time) => format!("last exported {time}"),
        _ => "never exported".to_owned(),
    };
    let exported = match field(keys, "people_without_key").as_u64() {
        None | Some(0) => exported,
        Some(people) => format!(
            "the keys of {} are missing, so their messages cannot be read: `chatto keys import FILE`; {exported}",
            counted(people, ("person", "people"))
        ),
    };
    match field(keys, "people_without_export").as_u64() {
        None | Some(0) => exported,
        Some(people) => {
            let people = counted(people, ("person has", "people have"));
            format!("{exported}; {people} keys that no export holds")
        }
    }
}

/// The bucket of files, and what is wrong with it.
fn s3(bucket: &Value) -> String {
    let text = |name: &str| field(bucket, name).as_str().unwrap_or_default();
    let state = match field(bucket, "usable").as_bool() {
        None => "not used yet".to_owned(),
        Some(true) => format!("usable since {}", text("since")),
        Some(false) => format!("not usable since {}", text("since")),
    };
    let errors = match field(bucket, "errors").as_u64() {
        None | Some(0) => String::new(),
        Some(errors) => format!(", {errors} errors, the last one: {}", text("last_error")),
    };
    format!("{} at {}, {state}{errors}", text("bucket"), text("origin"))
}
