//! Every system call that a backup and a restore make on their files fails once: afterwards there is what was there, or
//! the complete new thing, and the command says which file it was.
//!
//! A sample of the calls in ordinary runs; `CHATTO_FAILING_CALLS=all` makes each of them fail with each error.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{seeded, upload};
use crate::support::failing_calls::{Fault, can_trace, counts, run};
use crate::support::mounts::fuse;
use crate::support::server::Server;

fn is_everything() -> bool {
    std::env::var("CHATTO_FAILING_CALLS").is_ok_and(|which| which == "all")
}

/// What a call returns on disks that are full, broken, or mounted again for reading only.
fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "write" | "writev" | "pwrite64" => &["ENOSPC", "EFBIG", "EIO", "EDQUOT", "EROFS"],
        "fsync" | "fdatasync" | "syncfs" => &["EIO", "ENOSPC"],
        "flock" => &["ENOLCK", "EIO"],
        "stat" | "lstat" | "fstat" | "newfstatat" | "statx" | "getdents64" => &["EIO"],
        _ => &["EIO", "EROFS", "ENOSPC"],
    }
}

/// A fault for each of these calls; without `CHATTO_FAILING_CALLS` so many of them.
fn faults(calls: &[String], sample: usize) -> Vec<Fault> {
    let mut all = Vec::new();
    for (call, count) in counts(calls) {
        let errors = errors(&call);
        for number in 1..=count {
            let errors = match is_everything() {
                true => errors,
                false => &errors[(number - 1) % errors.len()..][..1],
            };
            let fault = |error| Fault { calls: call.clone(), error, number, for_good: false };
            all.extend(errors.iter().map(|error| fault(*error)));
        }
    }
    assert!(!all.is_empty());
    if !is_everything() {
        fastrand::shuffle(&mut all);
        all.truncate(sample);
    }
    all
}

fn read(path: &Path) -> Vec<u8> {
    chatto::runtime::limited_read(path, 256 << 20).unwrap()
}

/// The counts of streams that a command has printed.
fn streams(printed: &str) -> Value {
    let printed: Value = serde_json::from_str(printed).unwrap();
    printed["streams"].clone()
}

/// A server that runs, and an archive of it in a folder of its own.
struct BackedUp {
    server: Server,
    folder: PathBuf,
    archive: PathBuf,
}

impl BackedUp {
    fn new(file_bytes: usize) -> Self {
        let server = Server::start();
        let owner = server.owner();
        let (room, _) = seeded(&owner);
        let bytes: Vec<u8> = (0..file_bytes).map(|_| fastrand::u8(..)).collect();
        upload(&owner, &room, "file.bin", &bytes);
        let folder = server.dir().join("backups");
        let archive = folder.join("daily.tar.gz");
        let of = Self { server, folder, archive };
        of.server.chatto_ok(["backup", "-o", of.archive.to_str().unwrap()]);
        of
    }

    fn args(&self) -> String {
        format!("backup -o {}", self.archive.display())
    }

    /// Where a backup writes.
    fn paths(&self) -> Vec<PathBuf> {
        let names = [
            "daily.tar.gz",
            ".daily.tar.gz.partial",
            ".chatto-backups.json",
            "..chatto-backups.json.partial",
        ];
        names.iter().map(|name| self.folder.join(name)).chain([self.folder.clone()]).collect()
    }

    fn leftovers(&self) -> Vec<String> {
        let names = std::fs::read_dir(&self.folder).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name != "daily.tar.gz" && name != ".chatto-backups.json").collect()
    }

    fn verify(&self, what: &str) {
        let output = self.server.chatto(["backup", "verify", self.archive.to_str().unwrap()]);
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Whether what must hold whatever fails does hold, and the exit code and what was printed.
    fn fails(&self, fault: &Fault) -> (bool, i32, String) {
        let before = read(&self.archive);
        let ran = run(&self.server, &self.paths(), &self.args(), Some(fault));
        let what = format!("{fault}: exit code {}: {}", ran.exit, ran.stderr);
        let is_former = read(&self.archive) == before;
        if !is_former {
            self.verify(&what);
        }
        let is_too_large = fault.error == "EFBIG" && what.contains("the backup cannot be written");
        let holds = match ran.exit {
            0 => !is_former,
            73 | 74 => {
                what.contains("backups/") && is_too_large == what.contains("use exFAT or ext4")
            }
            _ => false,
        };
        (holds, ran.exit, what)
    }
}

#[test]
fn whatever_call_of_a_backup_fails_the_former_archive_is_there_or_the_complete_new_one() {
    if !can_trace() {
        return;
    }
    // 24 MiB are written in more than one step, with a flush between.
    let of = BackedUp::new(if is_everything() { 24 << 20 } else { 100_000 });
    let calls = run(&of.server, &of.paths(), &of.args(), None).calls;
    let made = counts(&calls);
    assert!(["write", "fsync", "flock"].iter().all(|call| made.contains_key(*call)), "{made:?}");
    let (mut wrong, mut failed) = (Vec::new(), 0);
    for fault in faults(&calls, 30) {
        let (holds, exit, what) = of.fails(&fault);
        failed += u32::from(exit != 0);
        if !holds || !of.leftovers().is_empty() {
            wrong.push(format!("{what} {:?}", of.leftovers()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(failed > 0);
    let printed = of.server.chatto_ok(["--json", "backup", "list", of.folder.to_str().unwrap()]);
    assert!(printed.contains("daily.tar.gz"), "{printed}");
}

/// From some call on nothing can be done any more with what is there: also nothing be removed.
#[test]
fn a_target_that_vanishes_fails_a_backup_and_leaves_at_most_what_the_next_one_replaces() {
    if !can_trace() {
        return;
    }
    let of = BackedUp::new(100_000);
    let names: Vec<String> = counts(&run(&of.server, &of.paths(), &of.args(), None).calls)
        .into_keys()
        .chain(["unlink".to_owned()])
        .collect();
    // On some architectures it has another name.
    let calls = names.iter().map(|name| format!("?{name}")).collect::<Vec<_>>().join(",");
    for (error, number) in [("ENOTCONN", 1), ("ESTALE", 2), ("EIO", 3)] {
        let fault = Fault { calls: calls.clone(), error, number, for_good: true };
        let (holds, exit, what) = of.fails(&fault);
        assert!(holds && exit != 0, "{what}");
    }
    of.server.chatto_ok(["backup", "-o", of.archive.to_str().unwrap(), "--verify"]);
    assert_eq!(of.leftovers(), [""; 0]);
}

/// Also writes that take a part of the bytes only: the kernel cuts one at the limit, and refuses the next.
#[test]
fn a_file_system_that_takes_no_larger_file_is_named_with_advice() {
    let of = BackedUp::new(100_000);
    let before = read(&of.archive);
    let kib = before.len() / 1024;
    for limit in [1, kib / 2, kib - 1] {
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec chatto {}", of.args());
        let output = of.server.shell(&script);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{limit}: {stderr}");
        assert!(
            stderr.contains("daily.tar.gz") && stderr.contains("use exFAT or ext4"),
            "{stderr}"
        );
        assert_eq!(of.leftovers(), [""; 0]);
        assert!(read(&of.archive) == before);
    }
}

/// A network share whose server is gone; here it is a FUSE file system whose process is killed.
#[test]
fn a_share_that_is_gone_fails_a_backup_at_once() {
    let Some(unshare) = fuse() else { return };
    let of = BackedUp::new(8 << 20);
    let before = read(&of.archive);
    std::fs::create_dir(of.server.dir().join("share")).unwrap();
    let output = of.server.shell(&format!(
        "exec {unshare} bash -euc '
            bindfs -f --write-rate=2M backups share & share=$!
            until mountpoint -q share; do kill -0 $share; sleep 0.01; done
            timeout 30 chatto backup -o share/daily.tar.gz & backup=$!
            until [ -s backups/.daily.tar.gz.partial ]; do kill -0 $backup; sleep 0.01; done
            kill -KILL $share
            wait $backup'"
    ));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{stderr}");
    assert!(stderr.contains("share/daily.tar.gz"), "{stderr}");
    assert!(output.stdout.is_empty(), "a path is printed only when the archive is complete");
    assert!(read(&of.archive) == before);
    of.server.chatto_ok(["backup", "-o", of.archive.to_str().unwrap(), "--verify"]);
    assert_eq!(of.leftovers(), [""; 0]);
}

#[test]
fn whatever_call_of_a_restore_fails_the_former_store_is_there_or_the_complete_new_one() {
    if !can_trace() {
        return;
    }
    let BackedUp { mut server, archive, .. } = BackedUp::new(100_000);
    server.client().log_in("ada").invite("bob");
    assert!(server.stop().success());
    let data = server.data_dir();
    let kept = server.dir().join("kept");
    let copy = |from: &Path, to: &Path| {
        let script = format!("rm -rf {1} && cp -a {0} {1}", from.display(), to.display());
        assert!(server.shell(&script).status.success());
    };
    copy(&data, &kept);
    let paths: Vec<PathBuf> = [
        "",
        "run",
        "run/nats.conf",
        "run/nats.pid",
        "lock",
        "initialised",
        "jetstream",
        "restoring",
        "restoring/initialised",
        "restored",
        "restored/jetstream",
        "restored/initialised",
    ]
    .iter()
    .map(|name| data.join(name).components().collect())
    .collect();
    let args = format!("restore --conflict=overwrite {}", archive.display());
    let found = || {
        let printed = server.chatto_ok(["--json", "backup", "-o", "check.tar.gz"]);
        for name in ["restoring", "restored"] {
            assert!(!data.join(name).exists(), "{name} is left");
        }
        streams(&printed)
    };
    let former = found();
    copy(&kept, &data);
    let ran = run(&server, &paths, &args, None);
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    let new = found();
    assert_ne!(former, new);
    let (mut wrong, mut seen) = (Vec::new(), [0, 0]);
    for fault in faults(&ran.calls, 12) {
        copy(&kept, &data);
        let ran = run(&server, &paths, &args, Some(&fault));
        let found = found();
        // Some of the calls are nats-server's, whose texts are its own.
        let names = [data.to_str().unwrap(), "nats-server ended"];
        let holds = match ran.exit {
            0 => found == new,
            73 | 74 => names.iter().any(|name| ran.stderr.contains(name)),
            _ => false,
        };
        if !holds || found != new && found != former {
            wrong.push(format!("{fault}: exit code {}: {}\n{found}", ran.exit, ran.stderr));
        }
        seen[usize::from(found == new)] += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!is_everything() || seen.iter().all(|count| *count > 0), "former and new: {seen:?}");
}
