//! Hello, subscription, and which frames are rejected (contract 8.1 to 8.3).

use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::protocol::CloseFrame;

use super::world::World;
use crate::support::realtime::{CatchUp, Follower, Frame, Key, Received, Sent, Socket, wire};

fn hello(version: u32, token: Option<&str>) -> Sent {
    let bearer_token = token.map(str::to_owned);
    Sent::Hello(wire::RealtimeClientHello { protocol_version: version, bearer_token })
}

fn subscribe(rooms: Vec<String>) -> Sent {
    Sent::SubscribeEvents(wire::RealtimeSubscribeEvents {
        resume_cursor: None,
        retained_room_ids: rooms,
    })
}

fn ping() -> Sent {
    Sent::Ping(wire::RealtimePing { nonce: "n".to_owned() })
}

fn hydrate() -> Sent {
    Sent::HydrateRoom(wire::RealtimeHydrateRoom { room_id: "Rnone".to_owned() })
}

fn rejected(expected: &str, socket: Socket) {
    let (code, close) = socket.closing_codes();
    assert_eq!(code.as_deref(), Some(expected));
    assert_eq!(close, Some(1008), "{expected}");
}

pub(super) fn a_bearer_token_and_a_cookie_authenticate(world: &World) {
    let bert = world.person("bert-opens");
    for key in [bert.bearer(), bert.cookie()] {
        let follower = Follower::load(world.endpoint(), key);
        assert_eq!(follower.state.viewer_id(), bert.id);
    }
    let Key::Cookie(cookie) = bert.cookie() else { unreachable!() };
    let own = world.endpoint().clone();
    let mut same =
        Socket::upgrade(&own, &[("Cookie", &cookie), ("Origin", &own.origin())]).unwrap();
    same.send(hello(2, None));
    assert!(matches!(same.frame(), Frame::Hello(_)), "a cookie from the own origin counts");
    let foreign = [("Cookie", cookie.as_str()), ("Origin", "https://elsewhere.example")];
    let mut alone = Socket::upgrade(world.endpoint(), &foreign).unwrap();
    alone.send(hello(2, None));
    rejected("authentication_required", alone);
    let mut with_bearer = Socket::upgrade(world.endpoint(), &foreign).unwrap();
    with_bearer.send(hello(2, Some(&bert.token)));
    assert!(matches!(with_bearer.frame(), Frame::Hello(_)), "a bearer counts from anywhere");
    let mut wrong = Socket::upgrade(world.endpoint(), &[("Cookie", &cookie)]).unwrap();
    wrong.send(hello(2, Some("cht_ATnonsense")));
    rejected("authentication_required", wrong);
}

pub(super) fn a_bad_handshake_is_rejected(world: &World) {
    let token = world.owner().token.clone();
    let open = || world.socket(&Key::None);
    for (first, expected) in [
        (hello(1, Some(&token)), "unsupported_protocol"),
        (hello(3, None), "unsupported_protocol"),
        (hello(2, None), "authentication_required"),
        (hello(2, Some("")), "authentication_required"),
        (hello(2, Some("cht_ATnonsense")), "authentication_required"),
        (subscribe(Vec::new()), "bad_hello"),
        (ping(), "bad_hello"),
        (hydrate(), "bad_hello"),
    ] {
        let mut socket = open();
        socket.send(first);
        rejected(expected, socket);
    }
    for bytes in [&b""[..], b"\xff\xff\xff", b"\x9a\x06\x00"] {
        let mut socket = open();
        socket.send_message(Message::Binary(bytes.to_vec().into())).unwrap();
        rejected("bad_hello", socket);
    }
}

pub(super) fn unexpected_frames_close_the_connection(world: &World) {
    let key = world.owner().bearer();
    let ready = || {
        let mut socket = world.socket(&key);
        socket.hello(&key);
        assert!(matches!(socket.frame(), Frame::Hello(_)));
        socket
    };
    let mut socket = ready();
    socket.send(ping());
    assert!(
        matches!(socket.frame(), Frame::Pong(pong) if pong.nonce == "n"),
        "a socket that is ready responds"
    );
    let many: Vec<String> = (0..65).map(|n| format!("R{n}")).collect();
    for frame in [hydrate(), hello(2, None), subscribe(many)] {
        let mut socket = ready();
        socket.send(frame);
        rejected("bad_subscribe", socket);
    }
    for frame in [hello(2, None), subscribe(Vec::new())] {
        let mut live = Follower::load(world.endpoint(), key.clone());
        live.socket().send(frame);
        assert_eq!(fatal(&mut live), "bad_frame");
    }
    for bytes in [&b"\xff\xff\xff"[..], b"\x9a\x06\x00"] {
        let mut live = Follower::load(world.endpoint(), key.clone());
        live.socket().send_message(Message::Binary(bytes.to_vec().into())).unwrap();
        assert_eq!(fatal(&mut live), "bad_frame");
    }
    // One byte more than a frame may have, and far more than is read before the rejection.
    for bytes in [(64 << 10) + 1, 1 << 20] {
        let mut live = Follower::load(world.endpoint(), key.clone());
        live.socket().send_message(Message::Binary(vec![0; bytes].into())).unwrap();
        assert_eq!(fatal(&mut live), "bad_frame");
    }
    let mut text = Follower::load(world.endpoint(), key);
    text.socket().send_message(Message::text("hello")).unwrap();
    loop {
        match text.socket().next() {
            Received::Closed(close) => break assert_eq!(close, Some(1003)),
            Received::Frame(frame) => {
                assert!(!matches!(frame, Frame::Error(_)), "{frame:?}");
            }
        }
    }
}

/// The code of the fatal error that ends a connection.
fn fatal(live: &mut Follower) -> String {
    let mut code = None;
    loop {
        match live.socket().next() {
            Received::Frame(Frame::Error(error)) if error.fatal => code = Some(error.code),
            Received::Frame(_) => {}
            Received::Closed(close) => {
                assert_eq!(close, Some(1008));
                return code.expect("a fatal error before the end");
            }
        }
    }
}

/// Waits ten seconds for each: the product's own limit.
#[test]
fn a_silent_client_is_disconnected() {
    let world = World::one();
    let key = world.owner().bearer();
    let silent = world.socket(&Key::None);
    let mut greeted = world.socket(&key);
    greeted.hello(&key);
    assert!(matches!(greeted.frame(), Frame::Hello(_)));
    rejected("bad_hello", silent);
    rejected("bad_subscribe", greeted);
}

/// Waits for two of the product's own intervals.
#[test]
fn heartbeats_come_in_time() {
    let world = World::one();
    let mut ada = Follower::new(world.owner().bearer());
    assert_eq!(ada.connect(world.endpoint()), CatchUp::Reset);
    ada.until("two heartbeats", |ada| ada.heartbeats >= 2);
}

pub(super) fn a_close_frame_is_returned_with_its_own_code(world: &World) {
    let key = Key::Bearer(world.owner().token.clone());
    let opened = || world.socket(&key);
    let greeted = || {
        let mut socket = opened();
        socket.hello(&key);
        assert!(matches!(socket.frame(), Frame::Hello(_)));
        socket
    };
    let loaded = || {
        let mut socket = greeted();
        socket.send(subscribe(Vec::new()));
        while !matches!(socket.frame(), Frame::CaughtUp(_)) {}
        socket
    };
    for (state, mut socket) in [("open", opened()), ("ready", greeted()), ("live", loaded())] {
        let frame = CloseFrame { code: 4_321.into(), reason: "".into() };
        socket.send_message(Message::Close(Some(frame))).unwrap();
        let returned = loop {
            if let Received::Closed(code) = socket.next() {
                break code;
            }
        };
        assert_eq!(returned, Some(4_321), "{state}");
    }
}
