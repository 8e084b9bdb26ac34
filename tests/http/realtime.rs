//! The realtime socket in the same process: what a viewer is sent, in order.
#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

use std::net::TcpStream;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::client::IntoClientRequest as _;
use async_tungstenite::tungstenite::{Message, WebSocket, client};
use chatto::contract::realtime::{
    self as wire, realtime_client_frame::Frame as ClientFrame, realtime_event_envelope::Event,
    realtime_projection_operation::Operation, realtime_server_frame::Frame,
};
use chatto::contract::{Encoding, api, binary, decode};
use chatto::http::Config;
use serde_json::json;

use super::support::{Edge, PATIENCE};
use crate::support::wait::until;

/// A client of the socket.
pub(super) struct Line {
    socket: WebSocket<TcpStream>,
}

impl Line {
    pub(super) fn open(edge: &Edge) -> Self {
        let stream = TcpStream::connect(edge.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("ws://localhost:{}/api/realtime", edge.address.port());
        let (socket, response) = client(url.into_client_request().unwrap(), stream).unwrap();
        assert_eq!(response.status(), 101);
        Self { socket }
    }

    /// Hello and subscription, up to `caught_up`; what came between.
    pub(super) fn subscribe(
        edge: &Edge,
        token: &str,
        held: &[&str],
        cursor: Option<String>,
    ) -> (Self, Vec<Frame>, String) {
        let mut line = Self::open(edge);
        line.send_frame(ClientFrame::Hello(wire::RealtimeClientHello {
            protocol_version: 2,
            bearer_token: Some(token.to_owned()),
        }));
        let Frame::Hello(hello) = line.next() else { panic!("no hello") };
        assert_eq!(hello.protocol_version, 2);
        line.send_frame(ClientFrame::SubscribeEvents(wire::RealtimeSubscribeEvents {
            resume_cursor: cursor,
            retained_room_ids: held.iter().map(|id| (*id).to_owned()).collect(),
        }));
        let Frame::Subscribed(_) = line.next() else { panic!("not subscribed") };
        let mut frames = Vec::new();
        loop {
            match line.next() {
                Frame::CaughtUp(caught_up) => return (line, frames, caught_up.cursor),
                frame => frames.push(frame),
            }
        }
    }

    pub(super) fn send_frame(&mut self, frame: ClientFrame) {
        let bytes = binary(&wire::RealtimeClientFrame { frame: Some(frame) });
        self.socket.send(Message::Binary(bytes.into())).unwrap();
    }

    /// The next frame that is no heartbeat.
    pub(super) fn next(&mut self) -> Frame {
        loop {
            match self.socket.read().unwrap() {
                Message::Binary(bytes) => {
                    let frame: wire::RealtimeServerFrame = decode(Encoding::Proto, bytes).unwrap();
                    match frame.frame.unwrap() {
                        Frame::Heartbeat(_) => {}
                        frame => return frame,
                    }
                }
                other => panic!("{other:?} instead of a frame"),
            }
        }
    }

    /// The operations of the next projection event, by name, with its id and actor.
    pub(super) fn event(&mut self) -> (String, Option<String>, Vec<Operation>) {
        match self.next() {
            Frame::ProjectionEvent(event) => (
                event.id.clone(),
                event.actor_id.clone(),
                operations(&[Frame::ProjectionEvent(event)]),
            ),
            other => panic!("{other:?} instead of an event"),
        }
    }
}

pub(super) fn operations(frames: &[Frame]) -> Vec<Operation> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            Frame::ProjectionEvent(event) => Some(event),
            _ => None,
        })
        .flat_map(|event| event.operations.iter().map(|one| one.operation.clone().unwrap()))
        .collect()
}

pub(super) fn names(operations: &[Operation]) -> Vec<&'static str> {
    operations
        .iter()
        .map(|operation| match operation {
            Operation::Reset(_) => "reset",
            Operation::ServerUpsert(_) => "server",
            Operation::ServerStateUpsert(_) => "state",
            Operation::ViewerUpsert(_) => "VU",
            Operation::UserUpsert(_) => "user",
            Operation::UserRemove(_) => "user gone",
            Operation::RoomUpsert(_) => "RU",
            Operation::RoomRemove(_) => "room gone",
            Operation::RoomGroupsReplace(_) => "GR",
            Operation::RoomTimelineReplace(_) => "TL",
            Operation::RoomTimelineEventUpsert(_) => "TU",
            Operation::RoomTimelineEventRemove(_) => "TR",
            Operation::RoomViewerStateReplace(_) => "RV",
            Operation::ActiveCallsReplace(_) => "AC",
            Operation::PresencesReplace(_) => "presences",
            Operation::ThreadViewerStatesReplace(_) => "TV",
            Operation::RoomActivity(_) => "RA",
            Operation::NotificationOccurrencesReplace(_) => "NO",
        })
        .collect()
}

fn general(edge: &Edge, token: &str) -> String {
    let rooms = edge.call_ok(token, "RoomDirectoryService/ListRooms", &json!({}));
    let rooms = rooms["rooms"].as_array().unwrap().clone();
    let general = rooms.iter().find(|room| room["room"]["name"] == "general").unwrap();
    general["room"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_fresh_load_a_post_and_a_resume() {
    let edge = Edge::start(Config::default());
    let ada = edge.owner();
    let room = general(&edge, &ada);
    edge.call_ok(&ada, "RoomService/JoinRoom", &json!({ "roomId": room }));
    let (mut line, frames, cursor) = Line::subscribe(&edge, &ada, &[&room], None);
    assert_eq!(
        names(&operations(&frames)),
        [
            "reset",
            "server",
            "state",
            "VU",
            "user",
            "RU",
            "RU",
            "GR",
            "NO",
            "AC",
            "TL",
            "VU",
            "TV",
            "NO",
            "presences"
        ]
    );

    let post = |text: &str| {
        let body = json!({ "roomId": room, "body": text });
        let posted = edge.call_ok(&ada, "MessageService/CreateMessage", &body);
        posted["message"]["id"].as_str().unwrap().to_owned()
    };
    let first = post("one");
    let (id, actor, sent) = line.event();
    assert_eq!(names(&sent)[..], ["RV", "RA", "TU"]);
    assert_eq!(id, first);
    assert!(actor.is_some());

    drop(line);
    let second = post("two");
    let (mut line, frames, _) = Line::subscribe(&edge, &ada, &[&room], Some(cursor));
    let replayed = operations(&frames);
    assert!(!names(&replayed).contains(&"reset"), "{:?}", names(&replayed));
    let rows: Vec<_> = replayed
        .iter()
        .filter_map(|operation| match operation {
            Operation::RoomTimelineEventUpsert(row) => Some(row.event.as_ref().unwrap().id.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(rows, [first, second]);
    line.send_frame(ClientFrame::Ping(wire::RealtimePing { nonce: "n".to_owned() }));
    assert!(matches!(line.next(), Frame::Pong(pong) if pong.nonce == "n"));
}

#[test]
fn a_second_person_joins_types_leaves_and_logs_out() {
    let edge = Edge::start(Config::default());
    let ada = edge.owner();
    let room = general(&edge, &ada);
    edge.call_ok(&ada, "RoomService/JoinRoom", &json!({ "roomId": room }));
    let (mut first, ..) = Line::subscribe(&edge, &ada, &[&room], None);

    let bob = edge.person(&ada, "bob");
    assert_eq!(names(&first.event().2), ["user"]);
    let (mut second, ..) = Line::subscribe(&edge, &bob, &[&room], None);
    edge.call_ok(&bob, "RoomService/JoinRoom", &json!({ "roomId": room }));
    assert_eq!(names(&second.event().2), ["RU", "TL", "AC", "NO", "GR", "TU"]);
    let (_, _, sent) = first.event();
    assert_eq!(names(&sent), ["RU", "TU"]);
    let Operation::RoomUpsert(room_now) = &sent[0] else { unreachable!() };
    assert_eq!(room_now.member_user_ids.len(), 2);

    edge.call_ok(&bob, "RoomService/UpdateTypingIndicator", &json!({ "roomId": room }));
    assert!(matches!(first.next(), Frame::Event(event) if event.actor_id.is_some()));
    edge.call_ok(
        &bob,
        "MyAccountService/UpdatePresence",
        &json!({ "status": "PRESENCE_STATUS_ONLINE" }),
    );
    for line in [&mut first, &mut second] {
        let Frame::Event(event) = line.next() else { panic!("no presence") };
        let Some(Event::PresenceChanged(changed)) = event.event else { panic!("{event:?}") };
        assert_eq!(changed.status, 1);
    }

    edge.call_ok(&bob, "RoomService/LeaveRoom", &json!({ "roomId": room }));
    assert_eq!(names(&second.event().2), ["RU", "TL", "AC", "NO", "TV", "VU", "GR"]);
    assert_eq!(names(&first.event().2), ["RU", "TU"]);

    let bearer = format!("Bearer {bob}");
    assert_eq!(edge.post("/auth/logout", &[("Authorization", &bearer)], &json!({})).status, 200);
    let end = second.next();
    let Frame::Event(event) = end else { panic!("no end: {end:?}") };
    let Some(Event::SessionTerminated(ended)) = event.event else { panic!("{event:?}") };
    assert_eq!(ended.reason, "logout");
}

#[test]
fn a_presence_that_is_not_refreshed_ends_and_an_old_cursor_loads_anew() {
    let edge = Edge::start(Config::default());
    let ada = edge.owner();
    let bob = edge.person(&ada, "bob");
    let online = json!({ "status": "PRESENCE_STATUS_ONLINE" });
    edge.call_ok(&bob, "MyAccountService/UpdatePresence", &online);
    let users = || edge.call_ok(&ada, "UserService/GetUser", &json!({ "login": "bob" }));
    // An ephemeral event reports it, and no response waits for that.
    until("bob is online", PATIENCE, || {
        (users()["user"]["user"]["presenceStatus"] == "PRESENCE_STATUS_ONLINE").then_some(())
    });
    let (mut line, _, cursor) = Line::subscribe(&edge, &ada, &[], None);

    // Time passes for the server only; an update of ada's presence makes it check which presences have expired.
    edge.clock.advance(Duration::from_secs(61));
    edge.call_ok(&ada, "MyAccountService/UpdatePresence", &online);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let Frame::Event(event) = line.next() else { continue };
        let Some(Event::PresenceChanged(changed)) = event.event else { panic!("{event:?}") };
        seen.push(changed.status);
    }
    seen.sort_unstable();
    assert_eq!(seen, [1, 4], "ada is online, bob is offline");
    let now = users();
    assert_eq!(now["user"]["user"]["presenceStatus"], "PRESENCE_STATUS_OFFLINE", "{now}");

    edge.clock.advance(Duration::from_secs(25 * 3600));
    let (_, frames, _) = Line::subscribe(&edge, &ada, &[], Some(cursor));
    assert_eq!(names(&operations(&frames))[0], "reset");
}

#[test]
fn the_oldest_of_too_many_sockets_makes_place() {
    let edge = Edge::start(Config::default());
    let ada = edge.owner();
    let mut lines: Vec<Line> = (0..21).map(|_| Line::subscribe(&edge, &ada, &[], None).0).collect();
    let Frame::Close(close) = lines[0].next() else { panic!("the first is not closed") };
    assert_eq!(close.code, "catch_up_rate_limited");
    assert!(close.reconnect && close.retry_after_ms >= 30_000, "{close:?}");
    for line in &mut lines[1..] {
        line.send_frame(ClientFrame::Ping(wire::RealtimePing { nonce: "here".to_owned() }));
        assert!(matches!(line.next(), Frame::Pong(_)));
    }
}

/// The events that `ada` receives, up to the one that `is_last`.
fn events_until(ada: &mut Line, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        if let Frame::Event(wire::RealtimeEventEnvelope { event: Some(event), .. }) = ada.next() {
            let ends = is_last(&event);
            events.push(event);
            if ends {
                return events;
            }
        }
    }
}

/// Changes for so long, as fast as they are taken.
const FLOOD: Duration = Duration::from_millis(2_500);

#[test]
fn signs_of_typing_go_out_once_a_second_and_the_last_is_told() {
    let edge = Edge::start(Config::default());
    let ada = edge.owner();
    let room = general(&edge, &ada);
    let bob = edge.person(&ada, "bob");
    for who in [&ada, &bob] {
        edge.call_ok(who, "RoomService/JoinRoom", &json!({ "roomId": room }));
    }
    let [first, second, last] = ["a", "b", "c"].map(|body| {
        let posted = edge.call_ok(
            &bob,
            "MessageService/CreateMessage",
            &json!({"roomId": room, "body": body}),
        );
        posted["message"]["id"].as_str().unwrap().to_owned()
    });
    let (mut line, _, _) = Line::subscribe(&edge, &ada, &[], None);
    let types = |thread: &str| {
        let body = json!({"roomId": room, "threadRootEventId": thread});
        edge.call_ok(&bob, "RoomService/UpdateTypingIndicator", &body);
    };
    let started = Instant::now();
    while started.elapsed() < FLOOD {
        types(&first);
        types(&second);
    }
    types(&last);
    let events = events_until(&mut line, |event| match event {
        Event::UserTyping(typing) => typing.thread_root_event_id.as_ref() == Some(&last),
        _ => false,
    });
    let most = usize::try_from(started.elapsed().as_secs()).unwrap() + 2;
    assert!(events.len() <= most, "{} signs in {:?}", events.len(), started.elapsed());
}

#[test]
fn presence_changes_once_a_second_and_the_last_holds() {
    let edge = Edge::start(Config::default());
    let ada = edge.owner();
    let bob = edge.person(&ada, "bob");
    let (mut line, _, _) = Line::subscribe(&edge, &ada, &[], None);
    let be = |status: &str, by_hand: bool| {
        let body = json!({"status": format!("PRESENCE_STATUS_{status}"), "userSelected": by_hand});
        edge.call_ok(&bob, "MyAccountService/UpdatePresence", &body)["status"].clone()
    };
    let started = Instant::now();
    while started.elapsed() < FLOOD {
        assert_eq!(be("AWAY", true), "PRESENCE_STATUS_AWAY");
        assert_eq!(be("ONLINE", true), "PRESENCE_STATUS_ONLINE");
    }
    assert_eq!(be("DO_NOT_DISTURB", true), "PRESENCE_STATUS_DO_NOT_DISTURB");
    // What was chosen by hand holds against what comes behind it in the same second.
    assert_eq!(be("ONLINE", false), "PRESENCE_STATUS_DO_NOT_DISTURB");
    let events = events_until(&mut line, |event| match event {
        Event::PresenceChanged(changed) => changed.status() == api::PresenceStatus::DoNotDisturb,
        _ => false,
    });
    let most = usize::try_from(started.elapsed().as_secs()).unwrap() + 2;
    assert!(events.len() <= most, "{} changes in {:?}", events.len(), started.elapsed());
}
