//! A damaged store and the levels of nats-server's lines.

use std::path::PathBuf;

use super::helper::Helper;
use super::{config, connect, create_stream, post, start, with_scope};

/// A data directory with one stream and one message, its server stopped.
fn store() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    with_scope(async |scope| {
        let embedded = start(config(dir.path()), &scope).await.unwrap();
        let nats = connect(&embedded).await;
        create_stream(&nats).await;
        post(&nats, 10).await.unwrap();
        embedded.stop().await;
    });
    let meta = dir.path().join("jetstream/$G/streams/T/meta.inf");
    assert!(meta.exists());
    (dir, meta)
}

#[test]
fn a_stream_left_out_for_damage_is_reported_with_nats_servers_words() {
    let (dir, meta) = store();
    std::fs::write(meta, "{\"damaged\":true}").unwrap();
    let mut helper = Helper::start(dir.path());
    helper.expect("ready");
    assert_eq!(helper.ask("damage"), "1");
    assert_eq!(helper.ask("stored"), "0");
    let error = |line: &&String| line.starts_with("log ERROR nats ") && line.contains("meta.inf");
    assert!(helper.seen().iter().any(|line| error(&line)), "{:#?}", helper.seen());
    // Damage is no write error: the child is not started again for it.
    assert_eq!(helper.ask("health"), "Running");
}

#[test]
fn nats_servers_lines_come_under_target_nats_with_our_levels() {
    let (dir, _) = store();
    let mut helper = Helper::start(dir.path());
    helper.expect("ready");
    helper.signal("TERM");
    assert!(helper.wait());
    let seen = helper.seen();
    let ready = seen.iter().find(|line| line.ends_with("Server is ready")).unwrap();
    assert_eq!(ready, "log DEBUG nats Server is ready");
    assert!(
        !seen.iter().any(|line| line.contains("log ERROR") || line.contains("log WARN")),
        "{seen:#?}"
    );
}
