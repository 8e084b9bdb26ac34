//! `status`: how the running server is.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::args::Status;
use super::output::at;
use super::{Context, Exit, Failure, local};
use crate::config::Purpose;

pub(super) fn run(context: &Context, args: &Status) -> Result<Exit, Failure> {
    match report(context) {
        Ok(report) => {
            let ready = at(&report, "ready") == &json!(true);
            if !args.ready {
                context.output.result(&text(&report), report.clone());
            }
            Ok(if ready { Exit::Success } else { Exit::Failed })
        }
        Err(failure) if args.ready && failure.exit != Exit::Config => Ok(failure.exit),
        Err(failure) => Err(failure),
    }
}

fn report(context: &Context) -> Result<Value, Failure> {
    let settings = context.load(Purpose::Local)?.settings;
    let Some(client) = local::running(&settings)? else {
        let place = match &settings.operator_socket {
            Some(path) => format!("no server answers at {}", path.display()),
            None => "operator_api.enabled is false: the server cannot be asked".to_owned(),
        };
        return Err(Failure::new(Exit::Unreachable, place));
    };
    Ok(client.call("status", json!({}))?)
}

fn text(report: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{:12}{value}", format!("{name}:")).ok();
    };
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    };
    let state = match at(report, "reason") {
        Value::String(reason) => format!("not ready ({reason})"),
        _ => "ready".to_owned(),
    };
    line("state", state);
    line("version", format!("{} (pid {})", word(at(report, "version")), at(report, "pid")));
    line("uptime", format!("{} s", at(report, "uptime_seconds")));
    line("listening", word(at(report, "listen")));
    line("users", word(at(report, "users")));
    let nats = at(report, "nats");
    let connected =
        if at(nats, "connected") == &json!(true) { "connected" } else { "not connected" };
    let restarts = at(nats, "restarts").as_u64().filter(|restarts| *restarts > 0);
    let restarts = restarts.map(|n| format!(", restarted {n} times")).unwrap_or_default();
    line(
        "nats",
        format!("{} {}, {connected}{restarts}", word(at(nats, "mode")), word(at(nats, "version"))),
    );
    if let Value::Object(disk) = at(report, "disk") {
        let size = |name: &str| mib(disk.get(name).and_then(Value::as_u64).unwrap_or_default());
        line("disk", format!("{} free, {} kept free", size("free_bytes"), size("floor_bytes")));
        let store = format!("{} of at most {}", size("store_bytes"), size("store_limit_bytes"));
        line("store", store);
    }
    line("backup", format!("last verified: {}", word(at(report, "last_verified_backup"))));
    for stream in at(report, "streams").as_array().into_iter().flatten() {
        let replicas = at(stream, "replicas");
        let drift = if replicas == at(nats, "replicas_configured") {
            ""
        } else {
            " (differs from nats.replicas)"
        };
        let bytes = mib(at(stream, "bytes").as_u64().unwrap_or_default());
        line(
            "stream",
            format!(
                "{} {} messages, {bytes}, replicas {replicas}{drift}",
                word(at(stream, "name")),
                at(stream, "messages")
            ),
        );
    }
    for held in at(report, "held_rooms").as_array().into_iter().flatten() {
        line("held", format!("room {}: {}", word(at(held, "room")), word(at(held, "reason"))));
    }
    for difference in at(report, "differences").as_array().into_iter().flatten() {
        line("differs", word(difference));
    }
    for error in at(report, "recent_errors").as_array().into_iter().flatten() {
        line("error", word(error));
    }
    text
}

fn mib(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}
