//! The port of the web server: free, held by the server, or by another program.

use std::os::unix::fs::MetadataExt;

use crate::app::port_holder;
use crate::runtime::port_listeners;

use super::store::Running;
use super::{Check, Facts};

const PORT: &str = "port";

/// Who listens.
#[derive(Debug)]
enum Holder {
    Nobody,
    /// Another program, or the server, by its name and process id if this account may see it.
    Somebody {
        uid: u32,
        name: Option<String>,
    },
    Unknown(String),
}

pub(super) fn check(facts: &Facts<'_>) -> Check {
    let port = facts.settings.webserver.port;
    if port == 0 {
        return Check::ok(PORT, "webserver.port is 0: each start takes a free port");
    }
    let holder = match port_listeners(port) {
        Err(error) => Holder::Unknown(error.to_string()),
        Ok(listeners) => match listeners.first() {
            None => Holder::Nobody,
            Some(first) => Holder::Somebody { uid: first.uid, name: port_holder::name(port) },
        },
    };
    let server_uid = facts.settings.data_dir.metadata().ok().map(|about| about.uid());
    assess(port, &holder, facts.running, server_uid)
}

fn assess(port: u16, holder: &Holder, running: &Running, server_uid: Option<u32>) -> Check {
    let (uid, name) = match holder {
        Holder::Unknown(why) => {
            return Check::skipped(
                PORT,
                format!("who holds port {port} cannot be found out ({why})"),
            );
        }
        Holder::Nobody if matches!(running, Running::Yes(_)) => {
            let text = format!(
                "the server runs, but nobody listens on port {port}: it was started with other settings"
            );
            return Check::warn(PORT, text)
                .fix("systemctl restart chatto, or run doctor with the server's -c FILE");
        }
        Holder::Nobody => return Check::ok(PORT, format!("port {port} is free")),
        Holder::Somebody { uid, name } => (*uid, name.as_deref()),
    };
    let who = match name {
        Some(name) => name.to_owned(),
        None => format!("a program of account {uid}"),
    };
    let is_server = match (running.pid(), name) {
        (Some(pid), Some(name)) => name.ends_with(&format!("(pid {pid})")),
        // This account may not see which process it is.
        (Some(_), None) => Some(uid) == server_uid,
        (None, _) => false,
    };
    if is_server {
        return Check::ok(PORT, format!("the server listens on port {port}"));
    }
    if matches!(running, Running::NotPermitted(_) | Running::NoSocket) && Some(uid) == server_uid {
        let text = format!("port {port} is held by {who}, of the server's account");
        return Check::ok(PORT, text);
    }
    let text = format!("port {port} is held by {who}, so the server cannot start on it");
    Check::fail(PORT, text).fix("stop that program, or set webserver.port to another number")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_holder_of_the_port_is_compared_with_the_server() {
        let nginx = Holder::Somebody { uid: 33, name: Some("nginx (pid 812)".to_owned()) };
        let hidden = Holder::Somebody { uid: 999, name: None };
        let running = || Running::Yes(json!({ "pid": 812 }));
        let other = || Running::Yes(json!({ "pid": 12 }));
        let unknown = Holder::Unknown("no table".to_owned());
        let cases = [
            (&Holder::Nobody, Running::No, Verdict::Ok),
            (&Holder::Nobody, running(), Verdict::Warn),
            (&nginx, Running::No, Verdict::Fail),
            (&nginx, running(), Verdict::Ok),
            (&nginx, other(), Verdict::Fail),
            (&hidden, running(), Verdict::Ok),
            (&hidden, Running::NotPermitted("/x".into()), Verdict::Ok),
            (&hidden, Running::No, Verdict::Fail),
            (&unknown, Running::No, Verdict::Skipped),
        ];
        for (holder, running, verdict) in cases {
            let check = assess(4000, holder, &running, Some(999));
            assert_eq!(check.verdict, verdict, "{holder:?} {running:?}: {check:?}");
        }
        let busy = assess(4000, &nginx, &Running::No, None);
        assert!(busy.text.contains("nginx (pid 812)"), "{busy:?}");
        assert!(busy.fix.unwrap().contains("webserver.port"));
    }
}
