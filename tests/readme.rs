//! The pages people read: the commands of README.md and docs/api.md are run as a reader would, copied from
//! the page, against a new server; links lead somewhere.

use std::path::{Path, PathBuf};

use crate::support::server::{BINARY, Server};

/// The address a reader uses, and the folder `make run` builds into.
const ADDRESS: &str = "http://localhost:4000";
const BUILT: &str = "$PWD/target/$(uname -m)-unknown-linux-musl/quick";
const SEPARATOR: &str = "-- docs/api.md";

#[test]
fn a_reader_gets_in_posts_and_reads_with_curl() {
    let script = shell_blocks(&page("README.md"));
    assert!(script.contains(BUILT), "README.md no longer names {BUILT}");

    // The page about the API continues where the first one ends; the separator divides their output.
    let script = format!("{script}echo; echo {SEPARATOR}\n{}", shell_blocks(&page("docs/api.md")));
    let server = Server::start();
    let said = run(&server, &script);
    let (first, second) = said.split_once(SEPARATOR).unwrap();
    // In the response to the first person, who posts it, and in what the second one reads.
    assert_eq!(first.matches("Hello, everybody").count(), 2, "{first}");
    assert_eq!(second.matches("the nightly job is done").count(), 2, "{second}");
    // In the response to the upload, in that to the post, and in what is read of the room.
    assert_eq!(second.matches("\"filename\":\"photo.png\"").count(), 3, "{second}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut dead = Vec::new();
    for name in pages() {
        let text = page(&name);
        let folder = root().join(&name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if !link.starts_with("http") && !file.is_empty() && !folder.join(file).exists() {
                dead.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

/// Runs a page's commands beside a server; what they printed.
fn run(server: &Server, script: &str) -> String {
    let image = format!(" {}", root().join("docs/images/room-phone.png").display());
    let here = Path::new(BINARY).parent().unwrap().display().to_string();
    let script = script
        .replace(ADDRESS, &format!("http://127.0.0.1:{}", server.port()))
        .replace(BUILT, &here)
        .replace(" logo.png", &image)
        .replace(" photo.png", &image)
        // What a reader would see as an error page is a failure here.
        .replace("curl -sS ", "curl -sS --fail-with-body ");
    let output = server.shell(&script);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// The pages for people, relative to the repository.
fn pages() -> Vec<String> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let is_page = |path: &PathBuf| path.extension().is_some_and(|end| end == "md");
    let name = |path: PathBuf| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    let top = ["README.md", "CHANGELOG.md", "src/README.md"].map(str::to_owned);
    docs.filter(is_page).map(name).chain(top).collect()
}

/// All blocks marked as shell, in order.
fn shell_blocks(page: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => {
                script.push_str(line);
                script.push('\n');
            }
            _ => {}
        }
    }
    script
}
