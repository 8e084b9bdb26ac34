//! A changed `core.secret_key`: refused, repaired by the old secret, repaired by `core.secret_key_previous`.

use super::seeded;
use crate::support::client::Message;
use crate::support::server::Server;

const OLD: &str = "the old secret of this server, long enough";
const NEW: &str = "the new secret of this server, long enough";

/// A stopped server that was used with [`OLD`].
fn stopped() -> (Server, String, Vec<Message>) {
    let mut server = Server::prepare();
    server.set("CHATTO_CORE_SECRET_KEY", OLD);
    server.run();
    let (room, history) = seeded(&server.owner());
    assert!(server.stop().success());
    (server, room, history)
}

#[test]
fn a_changed_secret_is_refused_and_the_old_one_heals() {
    let (mut server, room, history) = stopped();
    server.set("CHATTO_CORE_SECRET_KEY", NEW);
    let (code, printed) = server.run_refused();
    assert_eq!(code, 78, "{printed}");
    for way_out in ["core.secret_key", "core.secret_key_previous"] {
        assert!(printed.contains(way_out), "does not name {way_out}: {printed}");
    }
    assert!(!printed.contains(NEW) && !printed.contains(OLD), "prints a secret: {printed}");

    server.unset("CHATTO_CORE_SECRET_KEY");
    let (code, printed) = server.run_refused();
    assert_eq!(code, 78, "a missing secret is not generated over an initialised store: {printed}");

    server.set("CHATTO_CORE_SECRET_KEY", OLD);
    server.run();
    assert_eq!(server.client().log_in("ada").history(&room), history);
}

#[test]
fn the_previous_secret_heals_for_good() {
    let (mut server, room, history) = stopped();
    server.set("CHATTO_CORE_SECRET_KEY", NEW);
    server.set("CHATTO_CORE_SECRET_KEY_PREVIOUS", OLD);
    server.run();
    let owner = server.client().log_in("ada");
    assert_eq!(owner.history(&room), history);
    owner.post(&room, "after the change", "after").unwrap();
    assert!(server.stop().success());

    server.unset("CHATTO_CORE_SECRET_KEY_PREVIOUS");
    server.run();
    let after = server.client().log_in("ada").history(&room);
    assert_eq!(after[..history.len()], history);
    assert_eq!(after.last().unwrap().body, "after the change");
    assert!(server.stop().success());

    server.set("CHATTO_CORE_SECRET_KEY", OLD);
    let (code, printed) = server.run_refused();
    assert_eq!(code, 78, "the old secret still opens the store: {printed}");
}
