//! `backup verify --restore-test` compares what was restored with the archive: a store that has changed in between is
//! noticed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::backup::{attach, json_of, refused, text};
use super::external::running_on;
use super::seeded;
use crate::support::nats::{NatsServer, publish_all, server_binary};
use crate::support::port::free_port;
use crate::support::server::Server;

/// A nats-server, except that at its second start (the first restores, the second is read for the comparison) somebody
/// sends a request to the store before it runs: subject and payload, and what the response contains.
fn nats_server_that_sends(server: &Server, (request, response): ((&str, &str), &str)) -> PathBuf {
    let ((subject, payload), port) = (request, free_port());
    let here = server.dir().join("wrapped");
    std::fs::create_dir(&here).unwrap();
    let script = format!(
        r#"#!/bin/bash
set -eu
real='{real}' here='{here}'
send() {{
    exec 3<>/dev/tcp/127.0.0.1/{port}
    printf 'CONNECT {{"verbose":false}}\r\nSUB a 1\r\nPUB %s a %d\r\n%s\r\n' '{subject}' {length} '{payload}' >&3
    while IFS= read -r -t 2 line <&3; do
        if [[ $line == *'{response}'* ]]; then return 0; fi
    done
    return 1
}}
if [ "$1" = -c ]; then
    echo started >> "$here/starts"
    if [ "$(wc -l < "$here/starts")" = 2 ]; then
        store=$(sed -n 's/^ *store_dir: "\(.*\)"$/\1/p' "$2")
        printf 'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "%s" }}\n' "$store" > "$here/conf"
        "$real" -c "$here/conf" 2> "$here/log" &
        until (send) 2> /dev/null; do [ $SECONDS -lt 60 ] || kill $$; sleep 0.05; done
        kill $!
        wait $! || true
    fi
fi
exec -a nats-server "$real" "$@"
"#,
        real = server_binary().display(),
        here = here.display(),
        length = payload.len(),
    );
    let path = here.join("nats-server");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_restored_store_that_is_not_what_the_archive_holds_is_noticed() {
    let nats = NatsServer::start();
    let source = running_on(&nats);
    let owner = source.owner();
    let (room, _) = seeded(&owner);
    for name in ["one.bin", "two.bin"] {
        attach(&owner, &room, name, name.as_bytes());
    }
    // Nobody reads it yet.
    let notification = "$KV.NOTIFICATIONS.U00000000000001.0000000001";
    publish_all(nats.port(), [(notification.to_owned(), b"one".to_vec())]);
    let archive = source.dir().join("archive.tar.gz");
    json_of(&source, &["backup", "-o", text(&archive), "--verify"]);

    for (request, response, differs) in [
        // Nothing is changed.
        (("$JS.API.INFO", ""), "account_info_response", None),
        (
            ("$JS.API.STREAM.PURGE.KV_STATE", r#"{"filter":"$KV.STATE.user.*"}"#),
            r#""success":true"#,
            Some("STATE has "),
        ),
        ((notification, "two"), r#""stream":"KV_NOTIFICATIONS""#, Some("NOTIFICATIONS has other")),
        (
            ("$JS.API.STREAM.PURGE.OBJ_ASSETS", ""),
            r#""success":true"#,
            Some("ASSETS has 0 and not 2"),
        ),
    ] {
        let mut server = Server::prepare();
        let wrapped = nats_server_that_sends(&server, (request, response));
        server.set("CHATTO_NATS_EMBEDDED_BINARY", text(&wrapped));
        let work = server.dir().join("work");
        std::fs::create_dir(&work).unwrap();
        let test =
            ["backup", "verify", text(&archive), "--restore-test", "--work-dir", text(&work)];
        match differs {
            None => assert_eq!(json_of(&server, &test)["restored"]["users"], 1),
            Some(what) => {
                let (exit, stderr) = refused(&server, &test);
                assert_eq!(exit, 1, "{what}: {stderr}");
                let says = format!("the restored store is not what the archive holds: {what}");
                assert!(stderr.contains(&says), "{what}: {stderr}");
            }
        }
        assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0, "{differs:?}");
        // Retention does not count on an archive that a test restore did not bring back.
        let listed = json_of(&server, &["backup", "list", text(source.dir())]);
        let state = if differs.is_none() { "verified" } else { "damaged" };
        assert_eq!(listed["archives"][0]["state"], state, "{listed}");
    }
}
