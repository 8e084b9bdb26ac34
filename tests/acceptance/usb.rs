//! Backups on memory sticks, with the kernel's ext4 on a loop device in the place of a stick. What udev would know is written
//! where udev has it, in a mount namespace of the command. FAT, exFAT, plugging in and pulling out need a machine of their own
//! (tests/guest).

use std::fs::OpenOptions;
use std::process::{Command, Output};
use std::time::Duration;

use chatto::runtime::Clock;
use chatto::supervisor::{DataDir, Role};
use serde_json::{Value, json};

use super::keys::typed_keys;
use super::seeded;
use crate::support::server::Server;
use crate::support::wait::until;

const PASSPHRASE: &str = "correct horse battery";

/// Of a stick. Pairing copies the program, which takes 100 MB when it is not optimised.
const STICK_BYTES: u64 = 400 << 20;

/// A loop device with an ext4 file system.
struct Stick {
    device: String,
    uuid: String,
    /// As udev has it.
    label: &'static str,
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Stick {
    fn new(server: &Server, name: &str) -> Self {
        let image = server.dir().join(name);
        std::fs::File::create(&image).unwrap().set_len(STICK_BYTES).unwrap();
        output(Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-L", "CHATTO-BKP"]).arg(&image));
        let device = output(Command::new("/usr/sbin/losetup").args(["-f", "--show"]).arg(&image));
        let uuid =
            output(Command::new("/usr/sbin/blkid").args(["-s", "UUID", "-o", "value", &device]));
        Self { device, uuid, label: "CHATTO-BKP" }
    }

    /// A shell command that runs a script on a machine on which this stick is plugged in.
    fn machine(&self, script: &str) -> String {
        let Self { device, uuid, label } = self;
        format!(
            "exec unshare --mount bash -euc 'PATH=$PATH:/usr/sbin
            mount -t tmpfs none /run; mkdir -p /run/udev/data
            number=$(printf %d:%d 0x$(stat -c %t {device}) 0x$(stat -c %T {device}))
            printf \"E:ID_BUS=usb\\nE:ID_FS_TYPE=ext4\\nE:ID_FS_UUID={uuid}\\nE:ID_FS_LABEL={label}\\n\" >/run/udev/data/b$number
            {script}'"
        )
    }

    /// Runs a script with `chatto` in its path on a machine on which this stick is plugged in.
    fn script(&self, server: &Server, script: &str) -> Output {
        server.shell(&self.machine(script))
    }

    fn chatto(&self, server: &Server, command: &str) -> (i32, Value, String) {
        let done = self.script(server, &format!("chatto {command} --json"));
        let said = String::from_utf8(done.stderr).unwrap();
        let fields = serde_json::from_slice(&done.stdout).unwrap_or(Value::Null);
        (done.status.code().unwrap(), fields, said)
    }

    fn run(&self, server: &Server) -> (i32, Value, String) {
        self.chatto(server, &format!("usb run {} --passphrase-file passphrase", self.device))
    }

    fn pair(&self, server: &Server, options: &str) {
        let (code, _, said) =
            self.chatto(server, &format!("usb pair {} --name Blue --yes {options}", self.device));
        assert_eq!(code, 0, "{said}");
    }

    /// Runs a script while the stick is mounted at `m`.
    fn mounted(&self, server: &Server, script: &str) -> String {
        let done = self.script(server, &format!("mkdir -p m; mount {} m; {script}", self.device));
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{said}");
        String::from_utf8(done.stdout).unwrap()
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        Command::new("/usr/sbin/losetup").args(["-d", &self.device]).status().ok();
    }
}

/// A server that runs without root's rights, with a history.
fn server() -> Server {
    let mut server = Server::prepare();
    std::fs::write(server.dir().join("chatto.toml"), "").unwrap();
    server.become_nobody();
    server.run();
    seeded(&server.owner());
    std::fs::write(server.dir().join("passphrase"), PASSPHRASE).unwrap();
    server
}

/// Whether this machine can play a stick. Where root has no loop devices, as in some containers, there is nothing to be done.
fn is_possible() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let is_reduced = std::env::var_os("CHATTO_REDUCED").is_some_and(|value| value == "1");
    assert!(
        is_root || is_reduced,
        "sticks need root: sudo -E env PATH=$PATH cargo nextest run -E 'test(/acceptance::usb/)'. CHATTO_REDUCED=1 leaves them out"
    );
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control");
    match control {
        Ok(_) if is_root => return true,
        Ok(_) => eprintln!("REDUCED: sticks were not tried, which needs root"),
        Err(error) => eprintln!("REDUCED: sticks were not tried: /dev/loop-control: {error}"),
    }
    false
}

#[test]
fn a_stick_that_is_paired_gets_backups_from_which_a_server_comes_back() {
    if !is_possible() {
        return;
    }
    let server = server();
    let stick = Stick::new(&server, "stick.img");
    let (code, _, said) = stick.run(&server);
    assert_eq!(code, 77);
    assert!(said.contains("is not paired") && said.contains("chatto usb pair"), "{said}");
    assert_eq!(stick.mounted(&server, "ls m"), "lost+found\n");
    let (code, _, said) =
        stick.chatto(&server, &format!("usb pair {} --name Blue --yes", stick.device));
    assert_eq!(code, 2, "keys go nowhere by default");
    assert!(said.contains("--with-keys or --without-keys"), "{said}");
    stick.pair(&server, "--with-keys");

    let (code, done, said) = stick.run(&server);
    assert_eq!(code, 0, "{said}");
    assert_eq!(
        (&done["verified"], &done["backups"], &done["keys"]),
        (&json!(true), &json!(1), &json!(1))
    );
    let (code, done, said) = stick.run(&server);
    assert_eq!((code, &done["backups"]), (0, &json!(2)), "{said}");
    let found = stick.mounted(
        &server,
        "cd m/CHATTO; find . -type f | sort; stat -c %u S*; cat S*/.chatto-backups.json",
    );
    assert_eq!(found.matches("\"state\": \"verified\"").count(), 2, "{found}");
    for part in [
        "./README.txt\n",
        "./bin/chatto-",
        "./stick.json\n",
        "/keys.age\n",
        "/000001-",
        "\n65534\n",
    ] {
        assert!(found.contains(part), "{part} is missing: {found}");
    }
    assert!(!found.contains("keys.age.old"), "{found}");

    // Another machine, with the stick and the passphrase only.
    let mut other = Server::prepare();
    std::fs::write(other.dir().join("passphrase"), PASSPHRASE).unwrap();
    stick.mounted(
        &other,
        "cp m/CHATTO/bin/chatto-* ./chatto; ./chatto restore m/CHATTO/S*/000002-*.age --passphrase-file passphrase
         ./chatto keys import m/CHATTO/S*/keys.age --passphrase-file passphrase",
    );
    other.run();
    let ada = other.client().log_in("ada");
    let history = ada.history(&ada.room("general"));
    assert!(history.iter().any(|message| message.body == "message 4"), "{history:?}");
}

#[test]
fn a_stick_that_looks_like_a_paired_one_or_is_in_use_is_not_written_to() {
    if !is_possible() {
        return;
    }
    let server = server();
    let paired = Stick::new(&server, "paired.img");
    paired.pair(&server, "--without-keys");
    let mut forged = Stick::new(&server, "forged.img");
    forged.uuid.clone_from(&paired.uuid);
    let (code, _, said) = forged.run(&server);
    assert_eq!(code, 77, "{said}");
    assert!(said.contains("not its id"), "{said}");
    forged.mounted(&server, "mkdir m/CHATTO; echo no >m/CHATTO/stick.json");
    let (code, _, said) = forged.run(&server);
    assert_eq!(code, 74, "{said}");
    assert!(said.contains("the id of the paired stick Blue") && said.contains("damaged"), "{said}");
    forged.mounted(&server, "rm -r m/CHATTO");
    assert_eq!(forged.mounted(&server, "ls m"), "lost+found\n");
    let said = paired.mounted(
        &server,
        &format!(
            "chatto usb run {} --passphrase-file passphrase 2>&1 || echo code $?",
            paired.device
        ),
    );
    assert!(said.contains("eject it there first") && said.ends_with("code 75\n"), "{said}");

    // A link in the place of the directory of the backups leads nowhere.
    let target = server.data_dir().join("backups");
    std::fs::create_dir_all(&target).unwrap();
    let id = paired.run(&server).1["archive"].clone();
    assert!(id.is_string());
    paired.mounted(
        &server,
        &format!("cd m/CHATTO; s=$(echo S*); mv $s kept; ln -s {} $s", target.display()),
    );
    let (code, _, said) = paired.run(&server);
    assert_eq!(code, 74, "{said}");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);

    let (code, done, _) = paired.chatto(&server, "usb forget Blue");
    assert_eq!((code, &done["name"]), (0, &json!("Blue")));
    assert_eq!(paired.run(&server).0, 77);
}

#[test]
fn a_hostile_stick_gets_nothing_of_the_service_and_does_not_stop_the_machine() {
    if !is_possible() {
        return;
    }
    let server = server();
    let stick = Stick::new(&server, "stick.img");
    stick.pair(&server, "--with-keys");
    assert_eq!(stick.run(&server).0, 0);
    // It may not be linked to, as it is root's, and it may be copied, as it is everybody's.
    let secret = server.dir().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let path = secret.display();
    stick.mounted(
        &server,
        &format!(
            "cd m/CHATTO/S*; rm keys.age
            for name in keys.age keys.age.old .keys.age.partial; do ln -s {path} $name; done"
        ),
    );
    let options = stick.device.replace("/dev/", "/proc/fs/ext4/");
    let done = stick.script(
        &server,
        &format!(
            "chatto usb run {} --passphrase-file passphrase & pid=$!
            while kill -0 $pid 2>&-; do cat {options}/options 2>&- || true; sleep 0.1; done
            wait $pid",
            stick.device
        ),
    );
    let options = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(options.contains("errors=remount-ro"), "{options}");
    assert!(!options.contains("errors=continue"), "{options}");
    let found = stick.mounted(
        &server,
        "cd m/CHATTO/S*; for name in $(ls -A | grep keys); do stat -c \"%n %F %a\" $name; done",
    );
    assert_eq!(found, "keys.age regular file 600\nkeys.age.old symbolic link 777\n");
    // Nor is the catalogue read or written through a link.
    stick.mounted(&server, &format!("cd m/CHATTO/S*; ln -sf {path} .chatto-backups.json"));
    stick.run(&server);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
}

#[test]
fn a_full_stick_keeps_what_it_has() {
    if !is_possible() {
        return;
    }
    let server = server();
    let stick = Stick::new(&server, "stick.img");
    stick.pair(&server, "--without-keys");
    assert_eq!(stick.run(&server).0, 0);
    stick.mounted(&server, "dd if=/dev/zero of=m/fill bs=1M 2>&1 || true; sync");
    let (code, _, said) = stick.run(&server);
    assert_eq!(code, 74, "{said}");
    assert!(said.contains("Blue: the stick is full"), "{said}");
    assert!(said.contains("remove other files from it"), "{said}");
    let found = stick.mounted(&server, "ls -A m/CHATTO/S*; rm m/fill");
    assert_eq!(found.lines().count(), 2, "a part was left: {found}");
    let (code, done, said) = stick.run(&server);
    assert_eq!((code, &done["backups"]), (0, &json!(2)), "{said}");
}

#[test]
fn nothing_is_changed_before_the_last_answer() {
    if !is_possible() {
        return;
    }
    let server = server();
    let mut stick = Stick::new(&server, "stick.img");
    stick.label = "OTHER";
    output(Command::new("/usr/sbin/e2label").args([&stick.device, "OTHER"]));
    let pair = stick.machine(&format!("chatto usb pair {}", stick.device));
    let answers = |last: &str| {
        [
            ("with this server? (yes or no) ", "yes\n".to_owned()),
            ("be called? ", "Blue\n".to_owned()),
            ("stick, too? (yes or no) ", "no\n".to_owned()),
            ("Change the label? (yes or no) ", last.to_owned()),
        ]
    };
    let label = || output(Command::new("/usr/sbin/e2label").arg(&stick.device));
    let list = server.dir().join("usb-sticks.toml");
    let given_up = answers("\u{4}");
    for count in 1..=given_up.len() {
        let mut answers = given_up[..count].to_vec();
        answers[count - 1].1 = "\u{4}".to_owned();
        let (is_success, shown) = typed_keys(&server, &pair, &answers);
        assert!(!is_success && shown.contains("nothing was changed"), "{shown}");
    }
    assert_eq!(stick.mounted(&server, "ls m"), "lost+found\n");
    assert_eq!((label().as_str(), list.exists()), ("OTHER", false));
    let (is_success, shown) = typed_keys(&server, &pair, &answers("yes\n"));
    assert!(is_success && shown.contains("Blue is paired; pull it out"), "{shown}");
    assert_eq!((label().as_str(), list.exists()), ("CHATTO-BKP", true));
}

#[test]
fn what_pairing_writes_depends_neither_on_the_umask_nor_on_a_former_pairing() {
    if !is_possible() {
        return;
    }
    let server = server();
    let stick = Stick::new(&server, "stick.img");
    let pair = |options: &str| {
        let done = stick.script(
            &server,
            &format!("umask 077; chatto usb pair {} --name Blue --yes {options}", stick.device),
        );
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let modes = || {
        stick.mounted(&server, "stat -c %a m/CHATTO m/CHATTO/bin m/CHATTO/bin/* m/CHATTO/*.*; stat -c \"%a %g\" usb-sticks.toml")
    };
    let expected = "750\n750\n755\n644\n644\n640 65534\n";
    pair("--with-keys");
    assert_eq!(modes(), expected);
    stick.mounted(&server, "chmod -R go= m/CHATTO");
    pair("--with-keys");
    assert_eq!(modes(), expected);

    let (code, done, said) = stick.run(&server);
    assert_eq!((code, &done["keys"]), (0, &json!(1)), "{said}");
    stick.mounted(&server, "cp m/CHATTO/S*/keys.age $(echo m/CHATTO/S*)/.keys.age.partial");
    pair("--without-keys");
    let (code, done, said) = stick.run(&server);
    assert_eq!((code, &done["keys"]), (0, &Value::Null), "{said}");
    let found = stick.mounted(&server, "ls -A m/CHATTO/S*; stat -c %a m/CHATTO/S*");
    assert!(!found.contains("keys.age") && found.ends_with("\n750\n"), "{found}");
}

#[test]
fn a_backup_without_the_server_waits_for_a_command_that_uses_the_store() {
    if !is_possible() {
        return;
    }
    let mut server = server();
    let stick = Stick::new(&server, "stick.img");
    stick.pair(&server, "--without-keys");
    assert!(server.stop().success());
    let command = Role::Offline { command: "restore".to_owned() };
    let (path, clock) = (server.data_dir(), Clock::system());
    let held = smol::block_on(DataDir::lock(&path, command, &clock, |_| {})).unwrap();
    let run = format!("chatto usb run {} --passphrase-file passphrase 2>said", stick.device);
    let done = std::thread::scope(|scope| {
        let run = scope.spawn(|| stick.script(&server, &run));
        let said = server.dir().join("said");
        until("the backup waits", Duration::from_secs(120), || {
            assert!(!run.is_finished(), "{:?}", std::fs::read_to_string(&said));
            std::fs::read_to_string(&said).ok().filter(|said| said.contains("is using"))
        });
        drop(held);
        run.join().unwrap()
    });
    let said = std::fs::read_to_string(server.dir().join("said")).unwrap();
    assert!(done.status.success(), "{said}");
    assert!(said.contains("Waiting. Please leave it plugged in: `chatto restore` (pid "), "{said}");
    let found = stick.mounted(&server, "ls m/CHATTO/bin; ls m/CHATTO/S*");
    assert!(found.starts_with("chatto-") && found.ends_with(".age\n"), "{found}");
    assert_eq!(found.lines().count(), 2, "{found}");
}

#[test]
fn without_a_passphrase_the_way_to_one_is_shown_at_the_terminal_only() {
    if !is_possible() {
        return;
    }
    let server = server();
    let stick = Stick::new(&server, "stick.img");
    stick.pair(&server, "--without-keys");
    let run = format!("usb run {} --passphrase-file wrong", stick.device);
    let (code, _, said) = stick.chatto(&server, &run);
    assert_eq!(code, 74, "{said}");
    assert!(said.contains("Blue: cannot read wrong: No such file"), "{said}");
    let (code, done, said) = stick.chatto(&server, &format!("usb run {}", stick.device));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("nothing was backed up. Create one:\n\n    sudo sh"), "{said}");
    let why = done["error"]["message"].as_str().unwrap();
    assert!(why.ends_with("so nothing was backed up"), "{why}");
    let status = server.chatto_ok(["status"]);
    assert!(!status.contains("Create one"), "{status}");
}
