//! Disks that fail writes although they have free space: reads go on, writes are refused at once with the reason,
//! nothing is restarted before the fault is over, and afterwards nothing acknowledged is missing.
#![expect(clippy::disallowed_methods, reason = "refused requests are timed")]

use std::time::{Duration, Instant};

use super::seeded;
use crate::support::client::{Account, CallError, Message};
use crate::support::mounts::{
    aside, inside, loop_mounts, make_image, owner, prepare, repair_image, start, start_refused,
    within,
};
use crate::support::server::{Server, kill_quietly};
use crate::support::wait::until;

/// Longer than the ten seconds for which a ready server tolerates a failure, and than a restart of its child after
/// the longest delay between two probes.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);
/// The longest time until a write that cannot succeed is refused.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);
/// The reason that `/readyz` gives, and the message that a client gets.
type Reason = (&'static str, &'static str);
const FULL: Reason = ("disk_full", "the server's disk is full");
const ERROR: Reason = ("disk_error", "the server cannot write to its disk");
const TMPFS: &str = "mount -t tmpfs -o size=640m,nr_inodes=3000,mode=700 tmpfs data";

/// One server through one fault.
struct Trial {
    server: Server,
    owner: Account,
    room: String,
    history: Vec<Message>,
    acknowledged: Vec<String>,
    streams: Vec<String>,
    nats: u32,
}

impl Trial {
    fn begin(mut server: Server, mount: &str) -> Self {
        start(&mut server, mount);
        let owner = owner(&server);
        let (room, history) = seeded(&owner);
        let streams = streams(&server);
        assert!(streams.iter().any(|name| name == "JOURNAL"), "{streams:?}");
        let nats = server.nats_pid().expect("a nats-server");
        Self { server, owner, room, history, acknowledged: Vec::new(), streams, nats }
    }

    fn readyz(&self) -> String {
        let (status, body) = self.server.client().readyz().unwrap();
        if status == 200 { "ready".to_owned() } else { body }
    }

    /// One post: whether it was stored, or the error, which must not take long.
    fn post(&mut self) -> Result<(), String> {
        let body = format!("{} {}", self.acknowledged.len(), "x".repeat(8_000));
        let key = format!("post-{}", self.acknowledged.len());
        let began = Instant::now();
        match self.owner.post(&self.room, &body, &key) {
            Ok(_) => {
                self.acknowledged.push(body);
                Ok(())
            }
            Err(CallError::Refused { status: 503, body }) => {
                let took = began.elapsed();
                assert!(took < REFUSED_WITHIN, "refused after {took:?} only: {body}");
                Err(body["message"].as_str().unwrap_or_default().to_owned())
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Posts until one is refused, and checks everything that must hold while the fault lasts.
    fn is_refused(&mut self, reasons: &[Reason]) {
        let refused = until("a post is refused", NOTICED_WITHIN, || self.post().err());
        assert!(reasons.iter().any(|(_, text)| refused == *text), "{refused}");
        self.is_read();
        self.reports(reasons);
        let refused = self.post().unwrap_err();
        assert!(reasons.iter().any(|(_, text)| refused == *text), "{refused}");
        self.is_read();
        assert_eq!(self.server.nats_pid(), Some(self.nats), "restarted:\n{}", self.server.log());
        assert_eq!(streams(&self.server), self.streams);
    }

    fn reports(&self, reasons: &[Reason]) {
        until("/readyz gives the reason", NOTICED_WITHIN, || {
            let readiness = self.readyz();
            assert!(!readiness.contains("nats_unreachable"), "{}", self.server.log());
            reasons.iter().any(|(word, _)| readiness.contains(word)).then_some(())
        });
    }

    fn is_read(&self) {
        let seen = self.owner.history(&self.room);
        assert_eq!(seen[..self.history.len()], self.history, "reading goes on");
    }

    /// The child ends for another reason: it must not be restarted before the disk works again.
    fn stays_away_when_killed(&mut self, reasons: &[Reason]) {
        kill_quietly(self.nats);
        until("the child's end is seen", NOTICED_WITHIN, || {
            self.server.log().contains("is not restarted until files can be written").then_some(())
        });
        let refused = self.post().unwrap_err();
        assert!(reasons.iter().any(|(_, text)| refused == *text), "{refused}");
        self.reports(reasons);
        assert_eq!(self.server.nats_pid(), None);
        assert_eq!(streams(&self.server), self.streams);
    }

    /// After the fault, everything works again without help, and nothing is missing.
    fn recovers(&mut self) {
        until("posts are taken again", NOTICED_WITHIN, || self.post().ok());
        until("/readyz says ready", NOTICED_WITHIN, || (self.readyz() == "ready").then_some(()));
        self.is_complete();
    }

    fn is_complete(&self) {
        let seen = self.owner.history(&self.room);
        assert_eq!(seen[..self.history.len()], self.history);
        // A refused post may have been stored: a 503 does not rule that out.
        let bodies: Vec<&String> = seen
            .iter()
            .map(|message| &message.body)
            .filter(|body| self.acknowledged.contains(body))
            .collect();
        assert_eq!(bodies, self.acknowledged.iter().collect::<Vec<_>>());
        assert_eq!(streams(&self.server), self.streams);
    }

    fn stops(mut self) {
        assert!(self.server.stop().success(), "{}", self.server.log());
    }
}

/// The folders of all streams, sorted.
fn streams(server: &Server) -> Vec<String> {
    let folder = inside(server).join("jetstream/$G/streams");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Not the minimum of free space, which stops writes earlier: here nats-server itself fills the disk.
#[test]
fn without_a_byte_left_nothing_is_lost() {
    let mut server = prepare("0");
    server.set("CHATTO_NATS_EMBEDDED_MAX_FILE_STORE", "1GiB");
    let mut trial = Trial::begin(server, TMPFS);
    within(&trial.server, "head -c 1G /dev/zero > data/ballast || :");
    trial.is_refused(&[FULL]);
    trial.stays_away_when_killed(&[FULL]);
    within(&trial.server, "rm data/ballast");
    trial.recovers();
    trial.stops();
}

#[test]
fn without_free_inodes_nothing_is_lost() {
    let mut trial = Trial::begin(prepare("1MiB"), TMPFS);
    within(
        &trial.server,
        "mkdir data/many; cd data/many; n=0; while : >$n; do n=$((n+1)); done || :",
    );
    trial.is_refused(&[FULL]);
    trial.stays_away_when_killed(&[FULL]);
    within(&trial.server, "rm -r data/many");
    trial.recovers();
    trial.stops();
}

#[test]
fn a_mount_that_is_read_only_for_a_while_loses_nothing() {
    let mut trial = Trial::begin(prepare("1MiB"), TMPFS);
    // Over the disk itself: the kernel makes no file system read-only while files are open for writing.
    within(&trial.server, "mount --bind data data; mount -o remount,bind,ro data");
    trial.is_refused(&[ERROR]);
    trial.stays_away_when_killed(&[ERROR]);
    within(&trial.server, "umount data");
    trial.recovers();
    trial.stops();
}

/// What ext4 does after an error on most systems. Since Linux 6.14 only failing writes show it, and the mount can
/// only be removed.
#[test]
fn a_disk_that_turned_read_only_is_read_until_it_is_mounted_anew() {
    if !loop_mounts() {
        return;
    }
    const MOUNT: &str = "mount -o loop,errors=remount-ro disk.img data";
    const BREAK: &str = "echo broken > /sys/fs/ext4/$(basename $(findmnt -no SOURCE --target data))/trigger_fs_error";
    let server = prepare("1MiB");
    make_image(&server, "");
    let mut trial = Trial::begin(server, MOUNT);
    within(&trial.server, BREAK);
    trial.is_refused(&[ERROR]);
    trial.stays_away_when_killed(&[ERROR]);
    assert!(trial.server.stop().success(), "{}", trial.server.log());
    repair_image(&trial.server);
    // The server does not start on such a disk either.
    let (code, printed) = start_refused(&mut trial.server, &format!("{MOUNT}; {BREAK}"));
    assert_eq!(code, Some(73), "{printed}");
    repair_image(&trial.server);
    start(&mut trial.server, MOUNT);
    trial.recovers();
    trial.stops();
}

#[test]
fn a_start_without_free_inodes_ends_with_74_and_touches_no_stream() {
    if !loop_mounts() {
        return;
    }
    const MOUNT: &str = "mount -o loop disk.img data";
    let server = prepare("1MiB");
    make_image(&server, "-N 2000");
    let mut trial = Trial::begin(server, MOUNT);
    assert!(trial.server.stop().success());
    repair_image(&trial.server);
    let fill = "mkdir data/many; n=0; while : >data/many/$n; do n=$((n+1)); done || :";
    let (code, printed) = start_refused(&mut trial.server, &format!("{MOUNT}; {fill}"));
    assert_eq!(code, Some(74), "{printed}");
    assert!(printed.contains("free inodes"), "{printed}");
    repair_image(&trial.server);
    start(&mut trial.server, &format!("{MOUNT}; rm -r data/many"));
    trial.recovers();
    trial.stops();
}

/// An ext4 on a device whose own storage is full: `df` shows free space, but writes fail.
#[test]
fn a_device_that_fails_although_there_is_room_loses_nothing() {
    if !loop_mounts() {
        return;
    }
    let mut trial = Trial::begin(
        prepare("1MiB"),
        "mkdir device; mount -t tmpfs -o size=64m tmpfs device; truncate -s 512M device/disk.img; \
         mkfs.ext4 -q -O ^has_journal device/disk.img; mount -o loop device/disk.img data",
    );
    within(&trial.server, "head -c 100M /dev/zero > device/ballast || :");
    // How the kernel reports it depends on which write fails.
    trial.is_refused(&[FULL, ERROR]);
    trial.stays_away_when_killed(&[FULL, ERROR]);
    within(&trial.server, "rm device/ballast");
    trial.recovers();
    trial.stops();
}

/// The same with a journal. ext4 shuts down when it cannot write the journal, and does not recover when the device
/// works again: an operator must unmount, check and mount it.
#[test]
fn a_device_that_fails_under_a_journal_loses_nothing() {
    if !loop_mounts() {
        return;
    }
    // What the device stores on outlives its mounts, unlike a tmpfs. ext2 keeps no blocks back for later.
    const DEVICE: &str = "mount -o loop storage.img device";
    const MAKE: &str = "truncate -s 96M storage.img; mkfs.ext2 -q -m 0 storage.img; mkdir device; \
         mount -o loop storage.img device; truncate -s 512M device/disk.img; \
         mkfs.ext4 -q -O has_journal device/disk.img";
    const MOUNT: &str = "mount -o loop storage.img device; mount -o loop device/disk.img data";
    const FILL: &str =
        "for n in 1 2; do head -c 200M /dev/zero > device/ballast-$n || :; sync device; done";
    let server = prepare("1MiB");
    aside(&server, "storage.img", MAKE);
    let mut trial = Trial::begin(server, MOUNT);
    within(&trial.server, FILL);
    // How the kernel reports it depends on which write fails.
    trial.is_refused(&[FULL, ERROR]);
    trial.stays_away_when_killed(&[FULL, ERROR]);
    within(&trial.server, "rm device/ballast-*; ! touch data/file");
    trial.reports(&[ERROR]);
    assert_eq!(trial.server.nats_pid(), None);
    assert!(trial.server.stop().success(), "{}", trial.server.log());
    // 1: there was something to repair.
    let repair = format!("{DEVICE}; e2fsck -p device/disk.img || [ $? = 1 ]");
    aside(&trial.server, "storage.img", &repair);
    start(&mut trial.server, MOUNT);
    trial.recovers();
    trial.stops();
}
