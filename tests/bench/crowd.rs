//! Many realtime sockets, read by one thread.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::socket::{Socket, Stage};

/// Events taken from the kernel in one call.
const EVENTS: usize = 256;

/// See the module.
pub(crate) struct Crowd {
    epoll: OwnedFd,
    sockets: Vec<Socket>,
    buffer: Vec<u8>,
}

impl Crowd {
    pub(crate) fn new() -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
        Self { epoll, sockets: Vec::new(), buffer: vec![0; 256 * 1024] }
    }

    /// Begins to connect one more socket, which holds this room.
    pub(crate) fn connect(&mut self, port: u16, token: &str, room: &str) {
        let socket = Socket::connect(port, token, room);
        let data = EventData::new_u64(self.sockets.len() as u64);
        epoll::add(&self.epoll, &socket.stream, data, EventFlags::OUT).unwrap();
        self.sockets.push(socket);
    }

    /// Waits until every socket is live or closed.
    pub(crate) fn wait_until_connected(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        while self.live() + self.closed() < self.sockets.len() && Instant::now() < end {
            self.step(Duration::from_millis(100), &[]);
        }
    }

    /// Waits until every live socket has received `marker`; returns how many did in time.
    pub(crate) fn receive_marker(&mut self, marker: &[u8], limit: Duration) -> usize {
        let end = Instant::now() + limit;
        let mut received = 0;
        while received < self.live() && Instant::now() < end {
            received += self.step(Duration::from_millis(100), marker);
        }
        received
    }

    /// Reads what arrives for this long.
    pub(crate) fn idle(&mut self, length: Duration) {
        let end = Instant::now() + length;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.step(left, &[]);
        }
    }

    pub(crate) fn live(&self) -> usize {
        self.count(Stage::Live)
    }

    pub(crate) fn closed(&self) -> usize {
        self.count(Stage::Closed)
    }

    fn count(&self, stage: Stage) -> usize {
        self.sockets.iter().filter(|socket| socket.stage == stage).count()
    }

    /// Reads what is available, or waits for the next event; returns how many sockets received `marker`.
    fn step(&mut self, limit: Duration, marker: &[u8]) -> usize {
        let mut events = [MaybeUninit::<Event>::uninit(); EVENTS];
        let limit = Timespec::try_from(limit).unwrap();
        let (events, _) = epoll::wait(&self.epoll, &mut events, Some(&limit)).unwrap();
        let mut received = 0;
        for event in events {
            let place = usize::try_from(event.data.u64()).unwrap();
            let socket = &mut self.sockets[place];
            if socket.stage == Stage::Connecting {
                socket.connected();
                let data = EventData::new_u64(place as u64);
                epoll::modify(&self.epoll, &socket.stream, data, EventFlags::IN).unwrap();
                continue;
            }
            received += usize::from(socket.read(&mut self.buffer, marker));
            if socket.stage == Stage::Closed {
                epoll::delete(&self.epoll, &socket.stream).unwrap();
            }
        }
        received
    }
}
