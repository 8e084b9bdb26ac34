//! The manual page chatto(1), generated from the tree of commands.

use roff::{Inline, Roff, bold, italic, roman};

use super::help;
use super::tree::{self, Node};
use crate::golden;

fn sentence(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A name and its meaning, as a paragraph with a hanging label.
fn entry(page: &mut Roff, label: Vec<Inline>, meaning: &str) {
    page.control("TP", []).text(label).text([roman(sentence(meaning))]);
}

fn flags(page: &mut Roff, node: &Node) {
    for flag in tree::flags(node) {
        let mut label = Vec::new();
        if let Some(letter) = flag.short {
            label.extend([bold(format!("-{letter}")), roman(", ")]);
        }
        label.push(bold(flag.long));
        if let Some(name) = tree::value_name(flag) {
            label.extend([roman(" "), italic(name)]);
        }
        entry(page, label, flag.description);
    }
}

fn command(page: &mut Roff, path: &[&str], node: &Node) {
    page.control("SS", [format!("chatto {}", path.join(" ")).as_str()]);
    page.text([roman(sentence(node.description))]);
    let mut usage = vec![bold(format!("chatto {}", path.join(" ")))];
    if tree::needs_subcommand(node, false) {
        usage.extend([roman(" "), italic("command")]);
    } else if !node.commands.is_empty() {
        usage.extend([roman(" ["), italic("command"), roman("]")]);
    }
    for positional in node.positionals {
        usage.push(roman(format!(" {}", tree::usage_of(positional))));
    }
    usage.extend([roman(" ["), italic("options"), roman("]")]);
    page.control("PP", []).text(usage);
    for positional in node.positionals {
        entry(page, vec![italic(positional.name)], positional.description);
    }
    flags(page, node);
}

fn page() -> String {
    let root = tree::root();
    let mut page = Roff::new();
    let version = concat!("chatto ", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["CHATTO", "1", "", version, "User Commands"]);
    page.control("SH", ["NAME"]).text([roman("chatto - team-chat server for small boards")]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([
        bold("chatto"),
        roman(" "),
        italic("command"),
        roman(" ["),
        italic("options"),
        roman("]"),
    ]);
    page.control("SH", ["DESCRIPTION"]).text([roman(
        "A self-hosted chat server in one binary, with its store inside. It runs without a configuration; the first \
         owner is created with the link that chatto setup-link prints.",
    )]);
    page.control("PP", []).text([roman(
        "As a package it runs as the service chatto.service, with its configuration in /etc/chatto/chatto.toml and its \
         data in /var/lib/chatto.",
    )]);
    page.control("PP", []).text([roman(root.notes.join(" "))]);
    page.control("SH", ["COMMANDS"]);
    tree::walk(&mut |path, node| {
        if !path.is_empty() {
            command(&mut page, path, node);
        }
    });
    page.control("SH", ["COMMON OPTIONS"]);
    flags(&mut page, &root);
    entry(&mut page, vec![bold("-h"), roman(", "), bold("--help")], help::HELP_FLAG);
    entry(&mut page, vec![bold("-V"), roman(", "), bold("--version")], help::VERSION_FLAG);
    page.control("SH", ["EXIT STATUS"]);
    for code in root.error_codes {
        entry(&mut page, vec![bold(code.code.to_string())], code.description);
    }
    page.control("SH", ["FILES"]);
    for (path, meaning) in FILES {
        entry(&mut page, vec![italic(*path)], meaning);
    }
    page.control("SH", ["SEE ALSO"]).text([
        bold("chatto.toml"),
        roman("(5), "),
        bold("systemctl"),
        roman("(1), "),
        bold("journalctl"),
        roman("(1), "),
        bold("age"),
        roman("(1)"),
    ]);
    page.to_roff()
}

/// Where the packages put things (packaging/build.sh).
const FILES: &[(&str, &str)] = &[
    ("/etc/chatto/chatto.toml", "the configuration, see chatto.toml(5)"),
    (
        "/etc/chatto/backup-passphrase",
        "the passphrase of nightly backups; made by the administrator",
    ),
    ("/var/lib/chatto", "the data, with generated secrets in secrets.toml"),
    ("/var/lib/chatto/backups", "archives of chatto-backup.service"),
];

#[test]
fn the_manual_page_is_made_from_the_commands() {
    golden::compare("packaging/man/chatto.1", &page());
}
