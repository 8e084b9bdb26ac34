//! The text about backups, in its own order: a server, its backups, the age tool, a lost machine and a new one.

use std::path::Path;

use super::{BLOCKS, Check, State, at_terminal, script};
use crate::support::client::Message;
use crate::support::server::Server;

/// The story so far.
struct Story {
    server: Server,
    room: String,
    history: Vec<Message>,
    /// Blocks that were run.
    done: Vec<&'static str>,
}

impl Story {
    /// Runs a block as it is, except that folders of the system are in the server's own.
    #[track_caller]
    fn run(&mut self, server: &Server, block: &'static str) {
        self.done.push(block);
        let own = |path: &str| server.dir().join(path).to_string_lossy().into_owned();
        let script = script(&format!("backup-restore/{block}.sh"));
        let script =
            script.replace("/mnt/backups", &own("mnt")).replace("/etc/chatto", &own("etc"));
        at_terminal(server, &script);
    }

    /// A machine with these files of the former one.
    fn machine(&self, files: &[&str]) -> Server {
        let target = Server::prepare();
        for file in files {
            std::fs::copy(self.server.dir().join(file), target.dir().join(file)).unwrap();
        }
        target
    }
}

/// The files of a folder with this end.
fn files(folder: &Path, end: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().ends_with(end)).collect()
}

/// The part of the text about restores, each on a machine of its own.
fn restores(story: &mut Story) {
    for block in ["restore", "restore-encrypted", "restore-passphrase", "restore-conflicts"] {
        let target = story.machine(&["backup.tar.gz", "backup.tar.gz.age"]);
        if block == "restore-conflicts" {
            at_terminal(&target, &script("backup-restore/restore.sh"));
        }
        story.run(&target, block);
    }
    let mut target = story.machine(&["backup.tar.gz.age", "keys.backup"]);
    story.done.push("disaster-recovery");
    let recovery = script("backup-restore/disaster-recovery.sh");
    let (before, start) = recovery.trim_end().rsplit_once('\n').unwrap();
    at_terminal(&target, before);
    target.spawn_script(&format!("exec {start}"));
    assert!(target.ready_or_ended().is_none(), "{}", target.log());
    assert_eq!(target.client().log_in("ada").history(&story.room), story.history);
    assert!(target.stop().success());
}

#[test]
fn the_text_about_backups_does_what_it_says() {
    let server = Server::start();
    let owner = server.owner();
    let room = owner.room("general");
    owner.join(&room);
    for n in 0..5 {
        owner.post(&room, &format!("message {n}"), &format!("n-{n}")).unwrap();
    }
    let history = owner.history(&room);
    let mut story = Story { server: Server::prepare(), room, history, done: Vec::new() };
    let at = |name: &str| server.dir().join(name);
    for folder in ["mnt", "etc"] {
        std::fs::create_dir(at(folder)).unwrap();
    }
    // Twice: the customer writes the same name daily.
    for _ in 0..2 {
        story.run(&server, "backup");
    }
    story.run(&server, "backup-encrypted");
    story.run(&server, "backup-passphrase");
    assert_eq!(
        files(&at("backups"), "Z.tar.gz").len() + files(&at("backups"), "Z-2.tar.gz").len(),
        2
    );
    let sealed = files(&at("backups"), ".tar.gz.age");
    assert_eq!(sealed.len(), 3);
    assert!(at("mnt/chatto-daily.tar.gz").exists());
    std::fs::copy(&sealed[0], at("backup.tar.gz.age")).unwrap();
    at_terminal(&server, &script("backup-restore/keys-export.sh"));

    std::fs::write(at("etc/backup-passphrase"), "correct horse battery\n").unwrap();
    std::fs::copy(at("chatto.toml"), at("etc/chatto.toml")).unwrap();
    std::fs::create_dir(at("mnt/chatto")).unwrap();
    let old = at("mnt/chatto/old.age");
    std::fs::write(&old, "an archive of last year").unwrap();
    let year = std::time::Duration::from_secs(365 * 24 * 3600);
    let last_year = old.metadata().unwrap().modified().unwrap() - year;
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(last_year).unwrap();
    story.run(&server, "automated");
    assert_eq!((files(&at("mnt/chatto"), ".age").len(), old.exists()), (2, false));

    story.run(&server, "age-decrypt");
    std::fs::copy(at("backup.tar.gz"), at("kept.tar.gz")).unwrap();
    story.run(&server, "age-reencrypt");
    assert!(!at("backup.tar.gz").exists());
    std::fs::rename(at("kept.tar.gz"), at("backup.tar.gz")).unwrap();
    // What `age -p` wrote takes 256 MiB to open.
    let tested = server.chatto([
        "backup",
        "verify",
        "backup-new.tar.gz.age",
        "--passphrase",
        "correct horse battery",
    ]);
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    story.server = server;
    assert!(story.server.stop().success());

    restores(&mut story);
    for block in BLOCKS.iter().filter(|block| matches!(block.state, State::Passes(Check::Backups)))
    {
        let name = block.file.trim_start_matches("backup-restore/").trim_end_matches(".sh");
        assert!(story.done.contains(&name), "{name} was not run");
    }
}

#[test]
fn the_daily_script_of_our_page_does_what_it_says() {
    let server = Server::start();
    server.owner();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/backup.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, script) = page.split_once("```bash\n").unwrap();
    let (script, _) = script.split_once("```").unwrap();
    let own = |path: &str| server.dir().join(path).to_string_lossy().into_owned();
    let script =
        script.replace("/mnt/backups/chatto", &own("out")).replace("/etc/chatto", &own("etc"));
    std::fs::create_dir(own("out")).unwrap();
    std::fs::create_dir(own("etc")).unwrap();
    std::fs::write(own("etc/chatto.toml"), "# nothing to set\n").unwrap();
    std::fs::write(own("etc/backup-passphrase"), "correct horse battery\n").unwrap();
    let output = server.shell(&script);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let out = server.dir().join("out");
    assert_eq!((files(&out, "Z.tar.gz.age").len(), files(&out, "Z-keys.age").len()), (1, 1));
}
