//! What `backup`, `restore` and `keys` print when they succeed, command by command, in the order of the text about backups.
//! Refusals that need no store have their transcripts in tests/cmd.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use super::backup::json_of;
use super::{keys, seeded, upload};
use crate::support::golden;
use crate::support::server::Server;

/// What a command prints, with what changes from run to run taken out.
struct Transcript {
    text: String,
    /// Values of this run and the names that stand for them.
    names: Vec<(String, &'static str)>,
}

impl Transcript {
    /// Runs a line; what stands before ` | ` is standard input.
    fn run(&mut self, server: &Server, line: &str) {
        let (input, args) = line.split_once(" | ").unwrap_or(("", line));
        let args: Vec<&str> = args.split(' ').collect();
        let args: Vec<String> = args.iter().map(|word| self.value(word)).collect();
        let mut command = server.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(self.value(input).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let input = if input.is_empty() { String::new() } else { format!("{input} | ") };
        let (_, args) = line.split_once(" | ").unwrap_or(("", line));
        writeln!(self.text, "$ {input}chatto {args}").unwrap();
        for (mark, bytes) in [("", &output.stdout), ("2> ", &output.stderr)] {
            let printed = String::from_utf8(bytes.clone()).unwrap();
            for line in printed.lines() {
                writeln!(self.text, "{mark}{}", self.redacted(line)).unwrap();
            }
        }
        writeln!(self.text, "exit code {}\n", output.status.code().unwrap()).unwrap();
    }

    fn value(&self, word: &str) -> String {
        self.names.iter().fold(word.to_owned(), |word, (value, name)| word.replace(name, value))
    }

    fn redacted(&self, line: &str) -> String {
        let line = self
            .names
            .iter()
            .fold(line.to_owned(), |line, (value, name)| line.replace(value, name));
        let words: Vec<&str> = line.split(' ').collect();
        let units = words.iter().skip(1).copied().chain([""]);
        let shown: Vec<String> = words
            .iter()
            .zip(units)
            .map(|(word, unit)| {
                let unit = unit.split(['\t', ',']).next().unwrap_or_default();
                let (rest, last) = word.rsplit_once('\t').unwrap_or(("", word));
                let tab = if rest.is_empty() { "" } else { "\t" };
                format!("{rest}{tab}{}", redacted_word(last, unit))
            })
            .collect();
        shown.join(" ")
    }
}

/// Times, sizes, fractions and process ids (`(pid 1);`) differ from run to run; counts do not.
fn redacted_word(word: &str, unit: &str) -> String {
    let is_time = word.contains("20") && word.contains('T') && word.contains('Z');
    let is_size = ["B", "KiB", "min"].contains(&unit);
    let is_pid = word.ends_with(");");
    if !is_time && !is_size && !is_pid && !word.contains('.') {
        return word.to_owned();
    }
    let mut text = String::new();
    for c in word.chars() {
        match c.is_ascii_digit() {
            false => text.push(c),
            true if text.ends_with('N') => {}
            true => text.push('N'),
        }
    }
    // The second one within a second.
    text.replace("Z-N", "Z")
}

#[test]
fn what_the_commands_print_is_golden() {
    let mut server = Server::start();
    let owner = server.owner();
    let (room, _) = seeded(&owner);
    let file = upload(&owner, &room, "notes.txt", b"to be kept");
    let other = owner.room("announcements");
    assert!(server.stop().success());
    std::fs::write(server.dir().join("chatto.toml"), "# nothing to set\n").unwrap();
    json_of(&server, &["backup", "-o", "first.tar.gz"]);
    let first = json_of(&server, &["backup", "verify", "first.tar.gz", "--level=header"]);
    std::fs::remove_file(server.dir().join("first.tar.gz")).unwrap();
    let names = vec![
        (server.dir().to_string_lossy().into_owned(), "$DIR"),
        (first["server_id"].as_str().unwrap().to_owned(), "$SERVER"),
        (keys::PASSPHRASE.replace(' ', "-"), "$PASSPHRASE"),
        (room, "$ROOM"),
        (other, "$OTHER"),
        (file, "$FILE"),
    ];
    let mut transcript = Transcript { text: String::new(), names };
    for line in [
        "backup -c chatto.toml",
        "backup -c chatto.toml -o daily.tar.gz",
        "backup -c chatto.toml -o daily.tar.gz --verify",
        "backup -c chatto.toml --encrypt --passphrase $PASSPHRASE -o secret.tar.gz.age",
        "$PASSPHRASE | backup -c chatto.toml --encrypt -o secret.tar.gz",
        "backup verify secret.tar.gz.age --passphrase $PASSPHRASE --level=header",
        "backup verify secret.tar.gz.age --passphrase $PASSPHRASE",
        "backup verify secret.tar.gz.age --passphrase $PASSPHRASE --restore-test",
        "backup verify secret.tar.gz.age --passphrase another",
        "backup list .",
        "backup prune . --keep-last=1 --keep-daily=0 --keep-weekly=0 --keep-monthly=0 --dry-run",
        "backup prune . --keep-last=3",
        "keys export -c chatto.toml -o keys.backup --passphrase $PASSPHRASE",
        "$PASSPHRASE | keys export -c chatto.toml -o keys.backup",
        "backup extract daily.tar.gz",
        "backup extract daily.tar.gz $FILE",
        "backup extract secret.tar.gz.age general --passphrase $PASSPHRASE",
        "backup extract secret.tar.gz.age general --passphrase $PASSPHRASE --keys keys.backup --format=json",
    ] {
        transcript.run(&server, line);
    }
    let mut target = Server::prepare();
    for name in ["chatto.toml", "daily.tar.gz", "secret.tar.gz.age", "keys.backup"] {
        std::fs::copy(server.dir().join(name), target.dir().join(name)).unwrap();
    }
    transcript.names[0].0 = target.dir().to_string_lossy().into_owned();
    for line in [
        "restore daily.tar.gz -c chatto.toml --dry-run",
        "restore daily.tar.gz -c chatto.toml",
        "restore daily.tar.gz -c chatto.toml",
        "restore daily.tar.gz -c chatto.toml --conflict=skip",
        "restore daily.tar.gz -c chatto.toml --conflict=overwrite",
        "restore secret.tar.gz.age -c chatto.toml --passphrase $PASSPHRASE --conflict=overwrite",
        "keys import keys.backup -c chatto.toml --passphrase another",
        "keys import keys.backup -c chatto.toml --passphrase $PASSPHRASE",
        "$PASSPHRASE | keys import keys.backup -c chatto.toml",
    ] {
        transcript.run(&target, line);
    }
    target.run();
    transcript.run(&target, "restore daily.tar.gz -c chatto.toml --conflict=overwrite");
    transcript.run(&target, "backup -c chatto.toml -o running.tar.gz");
    golden::compare("tests/golden/backup-commands.txt", &transcript.text);
}
