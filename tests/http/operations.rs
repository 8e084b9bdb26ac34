//! What owners are told of the server's operation.

use std::time::Duration;

use chatto::domain::{BackupKind, BackupResult, BackupVerdict};
use chatto::http::Config;
use chatto::runtime::Clock;
use chatto::storage::BackupLog;
use serde_json::{Value, json};

use super::support::{Edge, Response};
use crate::storage::connect;

const PATH: &str = "/api/operations";

fn ask(edge: &Edge, token: &str) -> Response {
    edge.get(PATH, &[("Authorization", &format!("Bearer {token}"))])
}

fn codes(edge: &Edge, owner: &str) -> Vec<String> {
    let notices = ask(edge, owner).json()["notices"].as_array().unwrap().clone();
    notices.iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn only_owners_are_told_what_is_wrong() {
    let edge = Edge::start(Config::default());
    let owner = edge.owner();
    let ben = edge.person(&owner, "ben");
    assert_eq!(edge.get(PATH, &[]).status, 401);
    let refused = ask(&edge, &ben);
    assert_eq!((refused.status, refused.json()), (403, json!({"error": "permission denied"})));
    let nothing = ask(&edge, &owner);
    assert_eq!((nothing.status, nothing.json()), (200, json!({"schema": 1, "notices": []})));
    assert_eq!(nothing.header("cache-control"), Some("no-store"));
    assert_eq!(nothing.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(edge.post(PATH, &[], &json!({})).status, 405);

    edge.clock.advance(Duration::from_secs(49 * 3600));
    let told = ask(&edge, &owner).json();
    assert_eq!(told["notices"][0]["code"], "backup_never");
    for field in ["text", "action"] {
        assert!(told["notices"][0][field].as_str().is_some_and(|text| text.ends_with('.')));
    }
    assert_eq!(ask(&edge, &ben).status, 403);
}

#[test]
fn a_failed_backup_is_told_until_one_succeeds_and_then_that_it_is_late() {
    let edge = Edge::start(Config::default());
    let owner = edge.owner();
    let at_ms = edge.clock.unix_ms();
    let note = |verdict: BackupVerdict, reason: &str| {
        let (kind, reason) = (BackupKind::Stick, reason.to_owned());
        let place = "Blue <b>".to_owned();
        let result =
            BackupResult { kind, verdict, at_ms, place, reason, ..BackupResult::default() };
        let url = edge.nats_url();
        edge.operate(|_| async move {
            let (nats, clock) = (connect(&url).await, Clock::system());
            BackupLog { nats: &nats, clock: &clock }.add(&result).await.unwrap();
        });
    };
    note(BackupVerdict::Failed, "the stick\u{1b} is full");
    let notice: Value = ask(&edge, &owner).json()["notices"][0].clone();
    assert_eq!(notice["code"], "backup_failed");
    assert_eq!(notice["text"], "The backup to the stick Blue <b> failed: the stick is full.");
    note(BackupVerdict::Unverified, "");
    assert_eq!(codes(&edge, &owner), ["backup_not_verified"]);
    note(BackupVerdict::Verified, "");
    assert_eq!(codes(&edge, &owner), [""; 0]);
    edge.clock.advance(Duration::from_secs(73 * 3600));
    assert_eq!(codes(&edge, &owner), ["backup_late"]);
    assert_eq!(ask(&edge, &owner).json()["notices"][0]["text"], "No verified backup for 3 days.");
}
