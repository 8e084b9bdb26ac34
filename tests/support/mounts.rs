//! A chatto server whose data directory is a separate disk, mounted in a mount namespace that ends with the
//! server's processes: whatever happens to the test, nothing stays mounted.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::client::Account;
use super::server::Server;
use super::wait::until;

/// Root needs no user namespace, and loop mounts are refused inside one.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A server that is not started yet, with this much required free space.
pub(crate) fn prepare(min_free: &str) -> Server {
    let mut server = Server::prepare();
    server.set("CHATTO_NATS_EMBEDDED_MIN_FREE_DISK", min_free);
    std::fs::create_dir(server.data_dir()).unwrap();
    server
}

/// Starts it after `mount` (a bash script in the server's directory) ran in the new namespace, and waits
/// until it is ready.
pub(crate) fn start(server: &mut Server, mount: &str) {
    spawn(server, mount);
    assert!(server.ready_or_ended().is_none(), "{}", server.log());
}

/// Like `start`, where the server must refuse to start: its exit code and its output.
pub(crate) fn start_refused(server: &mut Server, mount: &str) -> (Option<i32>, String) {
    let before = server.log().len();
    spawn(server, mount);
    let status = server.ready_or_ended();
    let printed = server.log()[before..].to_owned();
    (
        status.unwrap_or_else(|| panic!("it started although it should not:\n{printed}")).code(),
        printed,
    )
}

fn spawn(server: &mut Server, mount: &str) {
    let user = if is_root() { "" } else { "--user --map-root-user" };
    server.spawn_script(&format!(
        "exec unshare {user} --mount bash -euc 'PATH=$PATH:/usr/sbin; {mount}; exec chatto start'"
    ));
}

/// Creates an ext4 image for `mount -o loop`.
pub(crate) fn make_image(server: &Server, options: &str) {
    let script = format!("truncate -s 512M disk.img; mkfs.ext4 -q {options} disk.img");
    run(server, &script);
}

/// Waits until nothing has the image mounted any more and repairs it, as an operator would.
pub(crate) fn repair_image(server: &Server) {
    until_free(server, "disk.img");
    // 1: it repaired something.
    run(server, "e2fsck -p disk.img || [ $? = 1 ]");
}

/// Runs a bash script in the server's directory, in mounts that end with it, while nothing else has `image`
/// mounted; it must succeed.
pub(crate) fn aside(server: &Server, image: &str, script: &str) {
    until_free(server, image);
    run(server, &format!("unshare --mount bash -euc '{script}'"));
    until_free(server, image);
}

fn until_free(server: &Server, image: &str) {
    until("the image is free", Duration::from_secs(30), || {
        run(server, &format!("losetup -j {image}")).is_empty().then_some(())
    });
}

/// Runs a bash script in the server's directory, outside its mounts; it must succeed.
fn run(server: &Server, script: &str) -> String {
    let output = server.shell(&format!("PATH=$PATH:/usr/sbin; {script}"));
    assert!(output.status.success(), "{script}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs a bash script in the server's directory and mounts; it must succeed.
pub(crate) fn within(server: &Server, script: &str) -> String {
    let user = if is_root() { "" } else { "--user --preserve-credentials" };
    let pid = server.pid();
    let output = server.shell(&format!(
        "exec nsenter --target {pid} {user} --mount --wd bash -euc 'PATH=$PATH:/usr/sbin; {script}'"
    ));
    let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{script}: {printed}\n{}", server.log());
    printed
}

/// Creates the owner through a setup link that is printed inside the server's mounts.
pub(crate) fn owner(server: &Server) -> Account {
    let link = within(server, "chatto setup-link");
    let token = link.split('#').nth(1).expect("a link with a token");
    server.client().set_up(token.split_whitespace().next().unwrap(), "ada")
}

/// The data directory as the server sees it.
pub(crate) fn inside(server: &Server) -> PathBuf {
    format!("/proc/{}/root{}", server.pid(), server.data_dir().display()).into()
}

/// Whether images can be mounted here; prints the reason if not.
pub(crate) fn loop_mounts() -> bool {
    static WORK: OnceLock<Result<(), String>> = OnceLock::new();
    let work = WORK.get_or_init(|| {
        if !is_root() {
            return Err("only root can mount images".to_owned());
        }
        let dir = tempfile::tempdir().unwrap();
        let output = Command::new("unshare")
            .args(["--mount", "bash", "-euc"])
            .arg("PATH=$PATH:/usr/sbin; truncate -s 8M i; mkfs.ext4 -q i; mkdir d; mount -o loop i d")
            .current_dir(dir.path())
            .output()
            .unwrap();
        if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
    });
    if let Err(why) = work {
        eprintln!(
            "NOT TESTED HERE, loop mounts are refused (mkfs.ext4: apt install e2fsprogs): {why}"
        );
    }
    work.is_ok()
}

/// The command that begins mounts of its own, in which `bindfs` can mount; `None`, and the reason is printed, where there
/// is no FUSE.
pub(crate) fn fuse() -> Option<&'static str> {
    let unshare =
        if is_root() { "unshare --mount" } else { "unshare --user --map-root-user --mount" };
    if std::fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        eprintln!("NOT TESTED HERE, there is no FUSE: /dev/fuse cannot be opened");
        return None;
    }
    Some(unshare)
}

/// What a command printed.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
