//! Many idle sockets beside a busy room: memory does not grow. `make soak` holds 1,000 of them for ten minutes
//! (`CHATTO_SOAK_SOCKETS`, `CHATTO_SOAK_SECONDS`).
#![expect(clippy::disallowed_methods, reason = "a soak lasts as long as the wall clock shows")]

use std::time::{Duration, Instant};

use super::world::World;
use crate::support::proc::number as proc_number;
use crate::support::realtime::{Endpoint, Follower};
use crate::support::server::Server;
use crate::support::wait::until;

/// What caches and allocator may still take after the first third: their bounds are 16 MiB together
/// (`limits`: overlay, pages, heads, keys), most of it is taken by then.
const GROWTH_MAX_KIB: u64 = 16 * 1024;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect(name))
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    proc_number(pid, "status", "VmRSS:")
}

/// The same once it no longer shrinks: the allocator returns freed memory a little later.
fn resident_when_stable(pid: u32) -> u64 {
    let (mut lowest, mut since) = (resident(pid), Instant::now());
    until("memory settles", Duration::from_secs(60), || {
        let now = resident(pid);
        if now < lowest {
            (lowest, since) = (now, Instant::now());
        }
        (since.elapsed() >= Duration::from_secs(1)).then_some(lowest)
    })
}

/// What an idle socket may take: 17 KiB were measured. One buffer of a library too many shows here.
const SOCKET_MAX_KIB: u64 = 32;

#[test]
fn an_idle_socket_takes_little_memory() {
    const PEOPLE: usize = 10;
    const EACH: usize = 20;
    let server = Server::start();
    let pid = server.pid();
    let world = World::of(vec![Endpoint::local(server.port())], vec![server], None);
    let people: Vec<_> = (0..=PEOPLE).map(|n| world.person(&format!("idle-{n}"))).collect();
    let quiet = world.room("quiet", &people.iter().collect::<Vec<_>>());
    let follow = |person| (0..EACH).map(|_| world.follow(person, &[&quiet])).collect::<Vec<_>>();
    // What is set up once is not counted for a socket.
    drop(follow(&people[PEOPLE]));
    let before = resident_when_stable(pid);
    let mut idle: Vec<Follower> = people[..PEOPLE].iter().flat_map(follow).collect();
    idle.iter_mut().for_each(Follower::sync);
    let after = resident_when_stable(pid);
    let grown = after.saturating_sub(before);
    eprintln!("{} sockets: {before} KiB before, {after} KiB with them", idle.len());
    let most = SOCKET_MAX_KIB * (PEOPLE * EACH) as u64;
    assert!(grown <= most, "{grown} KiB for {} sockets", idle.len());
}

#[test]
fn idle_sockets_beside_a_busy_room_take_no_more_memory_over_time() {
    let sockets = number("CHATTO_SOAK_SOCKETS", 200);
    let seconds = number("CHATTO_SOAK_SECONDS", 6);
    let mut server = Server::prepare();
    // All come from one address, which gets half.
    server.set("CHATTO_WEBSERVER_MAX_CONNECTIONS", &(2 * (sockets + 50)).to_string());
    server.run();
    let pid = server.pid();
    let world = World::of(vec![Endpoint::local(server.port())], vec![server], None);
    // As many sockets as a user may have.
    let idle: Vec<_> =
        (0..sockets.div_ceil(20)).map(|n| world.person(&format!("idle-{n}"))).collect();
    let writer = world.person("writer");
    let room = world.room("busy", &[&writer, world.owner()]);
    let quiet = world.room("quiet", &idle.iter().collect::<Vec<_>>());
    let people = idle.iter().cycle().take(usize::try_from(sockets).unwrap());
    let mut followers: Vec<Follower> =
        people.map(|person| world.follow(person, &[&quiet])).collect();
    let mut reader = world.follow(world.owner(), &[&room]);

    let start = Instant::now();
    let (length, mut posts, mut warm) = (Duration::from_secs(seconds), 0_u64, 0);
    let mut next_report = Duration::ZERO;
    while start.elapsed() < length {
        posts += 1;
        world.post(&writer, &room, &format!("post {posts}"));
        reader.sync();
        if warm == 0 && start.elapsed() * 3 >= length {
            warm = resident(pid);
        }
        if start.elapsed() >= next_report {
            eprintln!("{:?}: {posts} posts, {} KiB", start.elapsed(), resident(pid));
            next_report += length / 10;
        }
    }
    let end = resident(pid);
    let last = format!("post {posts}");
    assert!(reader.state.shows(&room, &last), "the busy room is live");
    // Each of them is still connected and gets changes of its own room at once.
    world.post(&idle[0], &quiet, "hello");
    for follower in &mut followers {
        // The post is queued for everybody: at most a pong overtakes it.
        follower.sync();
        follower.sync();
        assert!(follower.state.shows(&quiet, "hello"), "the own room is live");
        assert!(u64::try_from(follower.heartbeats).unwrap() >= seconds / 20, "heartbeats");
    }
    eprintln!("{sockets} sockets, {posts} posts: {warm} KiB warm, {end} KiB at the end");
    assert!(end <= warm + GROWTH_MAX_KIB, "grew from {warm} to {end} KiB");
}
