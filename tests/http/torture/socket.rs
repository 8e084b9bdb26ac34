//! The realtime socket's handshake: what comes in its packet, and what is no handshake.

use chatto::contract::realtime::{
    self as wire, realtime_client_frame::Frame as ClientFrame, realtime_server_frame::Frame,
};
use chatto::contract::{Encoding, binary, decode};

use super::super::support::{HANDSHAKE, frame};
use super::{HEALTH, edge, exchange, head, statuses};

#[test]
fn a_frame_in_the_handshakes_packet_is_not_lost() {
    let edge = edge();
    let token = edge.owner();
    let hello = wire::RealtimeClientHello { protocol_version: 2, bearer_token: Some(token) };
    let hello = binary(&wire::RealtimeClientFrame { frame: Some(ClientFrame::Hello(hello)) });
    let request = head("GET", "/api/realtime", &HANDSHAKE);
    let mut raw = edge.connect();
    raw.send(&[request.as_bytes(), &frame(0x82, &hello)].concat());
    let response = raw.response().unwrap();
    assert_eq!(response.status, 101);
    assert_eq!(response.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let start = raw.exactly(2);
    assert_eq!(start[0], 0x82, "a whole binary frame");
    let length = match start[1] {
        126 => usize::from(u16::from_be_bytes(raw.exactly(2).try_into().unwrap())),
        short => usize::from(short),
    };
    let frame: wire::RealtimeServerFrame =
        decode(Encoding::Proto, raw.exactly(length).into()).unwrap();
    assert!(matches!(frame.frame, Some(Frame::Hello(_))), "{frame:?}");
}

#[test]
fn what_is_no_handshake_is_refused_and_frames_behind_it_are_no_requests() {
    let edge = edge();
    let without = |name: &str| {
        let left: Vec<_> = HANDSHAKE.into_iter().filter(|(known, _)| *known != name).collect();
        head("GET", "/api/realtime", &left)
    };
    for name in HANDSHAKE.map(|(name, _)| name) {
        let bytes = [without(name).as_bytes(), &frame(0x82, b"x"), HEALTH.as_bytes()].concat();
        let received = statuses(&exchange(&edge, &bytes));
        assert!(matches!(received[..], [400 | 426] | [400 | 426, 400]), "{name}: {received:?}");
    }
    // Garbage instead of frames ends the socket alone.
    for garbage in [&b"\0\0\0\0"[..], &[0xff; 200], &[0x82, 0xff, 0xff, 0xff, 0xff, 0xff], b"GET /"]
    {
        let request = head("GET", "/api/realtime", &HANDSHAKE);
        let mut stream = edge.connect();
        stream.send(&[request.as_bytes(), garbage].concat());
        assert_eq!(stream.response().unwrap().status, 101);
        stream.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(stream.ends());
    }
    assert_eq!(edge.exchange(HEALTH).status, 200);
}
