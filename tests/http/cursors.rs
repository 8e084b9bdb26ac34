//! How long a resume cursor holds (contract 8.7): a day, whatever else happened.

use std::time::Duration;

use chatto::http::Config;
use serde_json::json;

use super::support::Edge;
use crate::support::realtime::{CatchUp, Endpoint, Follower, Key};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_cursor_holds_for_a_day() {
    let edge = Edge::start(Config::default());
    let ada = edge.owner();
    let endpoint = Endpoint::local(edge.address.port());
    let mut follower = Follower::load(&endpoint, Key::Bearer(ada.clone()));
    follower.cut();
    edge.clock.advance(23 * HOUR);
    assert_eq!(follower.connect(&endpoint), CatchUp::Replay, "the day is not over");
    let body = json!({"status": "PRESENCE_STATUS_ONLINE"});
    edge.call_ok(&ada, "MyAccountService/UpdatePresence", &body);
    let old = follower.cursor.clone();
    follower.cut();
    edge.clock.advance(23 * HOUR);
    assert_eq!(follower.connect(&endpoint), CatchUp::Replay, "each connection gives a new one");
    follower.cut();
    follower.cursor = old;
    edge.clock.advance(2 * HOUR);
    assert_eq!(follower.connect(&endpoint), CatchUp::Reset, "this one is two hours too old");
}
