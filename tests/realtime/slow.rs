//! A client that does not read is disconnected, and resumes without a loss (contract 8.8).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::world::World;
use crate::support::realtime::{CatchUp, Follower};
use crate::support::wait::until;

/// Together more than the sockets' buffers hold.
const LONG_POSTS: usize = 600;
/// More than the 1,024 changes that wait for a connection; all together fewer than a resume replays.
const SHORT_POSTS: usize = 1_200;
const POSTS: usize = LONG_POSTS + SHORT_POSTS;
const WRITERS: usize = 6;
/// The writers are never further ahead of the client that reads, however slow the machine: far less
/// than the 1,024 changes after which it would be disconnected too.
const AHEAD: usize = 256;

#[test]
fn a_client_that_does_not_read_is_disconnected_and_misses_nothing() {
    let world = World::one();
    let (bert, carla) = (world.person("bert-is-slow"), world.person("carla-is-fast"));
    let room = world.room("slow", &[&bert, &carla]);
    let mut slow = world.follow(&bert, &[&room]);
    let mut fast = world.follow(&bert, &[&room]);
    let endpoint = world.endpoint().clone();
    let long = "x".repeat(9_900);
    let seen = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (endpoint, carla, room, long, seen) = (&endpoint, &carla, &room, &long, &seen);
            scope.spawn(move || {
                for (post, body) in bodies(long, writer).enumerate() {
                    until("the client that reads", Duration::from_secs(60), || {
                        (post * WRITERS < seen.load(Ordering::Relaxed) + AHEAD).then_some(())
                    });
                    World::post_by(endpoint, carla, room, &body);
                }
            });
        }
        fast.until("every post", |fast| {
            seen.store(fast.state.bodies(&room).len(), Ordering::Relaxed);
            seen.load(Ordering::Relaxed) == POSTS
        });
    });
    assert!(fast.is_connected(), "whoever reads stays");
    let end = slow.ended();
    assert_eq!(end.close, Some(("slow_consumer".to_owned(), true)), "{end:?}");
    let seen = slow.state.bodies(&room).len();
    assert!(seen < POSTS, "all came before the end: the pipe was never full");
    assert_eq!(slow.connect(world.endpoint()), CatchUp::Replay);
    assert_eq!(names(&slow, &room), names(&fast, &room), "nothing is missing");
}

/// What the bodies begin with.
fn names<'a>(follower: &'a Follower, room: &str) -> Vec<&'a str> {
    let bodies = follower.state.bodies(room);
    bodies.into_iter().map(|body| body.split(' ').next().unwrap_or_default()).collect()
}

/// What one writer posts, the long ones first.
fn bodies(long: &str, writer: usize) -> impl Iterator<Item = String> {
    let longs = (0..LONG_POSTS / WRITERS).map(move |post| format!("{writer}.{post} {long}"));
    let shorts = (0..SHORT_POSTS / WRITERS).map(move |post| format!("{writer}.short-{post}"));
    longs.chain(shorts)
}
