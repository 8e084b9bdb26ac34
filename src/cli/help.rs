//! Help texts and the reference page of the command line, generated from the tree of commands.

use std::fmt::Write as _;

use argh::FlagInfo;

use super::tree::{self, Node};

pub(super) const HELP_FLAG: &str = "print this help";
pub(super) const VERSION_FLAG: &str = "print the version";

/// What bare `chatto` prints.
pub(super) fn short() -> String {
    let root = tree::root();
    let mut text = String::from("Usage: chatto <command> [options]\n\nCommands:\n");
    commands(&root, &mut text);
    text.push_str(
        "\n`chatto start` starts the server; `chatto <command> --help` explains a command.\n",
    );
    text
}

/// Help on the command of a path; on the program for an empty one.
pub(super) fn of(path: &[String]) -> String {
    let root = tree::root();
    let mut node = &root;
    for name in path {
        if let Some(command) = tree::subcommand(node, name) {
            node = &command.command;
        }
    }
    let mut text = format!("{}\n\nUsage: {}\n", node.description, usage(path, node));
    if !node.commands.is_empty() {
        text.push_str("\nCommands:\n");
        commands(node, &mut text);
    }
    if !node.positionals.is_empty() {
        text.push_str("\nArguments:\n");
        for positional in node.positionals {
            entry(&mut text, &format!("<{}>", positional.name), positional.description);
        }
    }
    if !path.is_empty() && tree::flags(node).next().is_some() {
        text.push_str("\nOptions:\n");
        flags(node, &mut text);
    }
    text.push_str("\nCommon options:\n");
    flags(&root, &mut text);
    entry(&mut text, "-h, --help", HELP_FLAG);
    if path.is_empty() {
        entry(&mut text, "-V, --version", VERSION_FLAG);
        text.push_str("\nExit codes:\n");
        for code in root.error_codes {
            entry(&mut text, &code.code.to_string(), code.description);
        }
    }
    text
}

fn usage(path: &[String], node: &Node) -> String {
    let mut text = String::from("chatto");
    for name in path {
        write!(text, " {name}").ok();
    }
    if tree::needs_subcommand(node, path.is_empty()) {
        text.push_str(" <command>");
    } else if !node.commands.is_empty() {
        text.push_str(" [command]");
    }
    for positional in node.positionals {
        write!(text, " {}", tree::usage_of(positional)).ok();
    }
    text.push_str(" [options]");
    text
}

fn commands(node: &Node, text: &mut String) {
    for command in &node.commands {
        entry(text, command.name, command.command.description);
    }
}

fn flags(node: &Node, text: &mut String) {
    for flag in tree::flags(node) {
        entry(text, &spelling(flag), flag.description);
    }
}

/// `-c, --config <file>`.
fn spelling(flag: &FlagInfo<'static>) -> String {
    let short = flag.short.map(|letter| format!("-{letter}, ")).unwrap_or_default();
    let value = tree::value_name(flag).map(|name| format!(" <{name}>")).unwrap_or_default();
    format!("{short}{}{value}", flag.long)
}

/// A name and its meaning in two columns.
fn entry(text: &mut String, name: &str, meaning: &str) {
    let meaning = meaning.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.chars().count() > 24 {
        writeln!(text, "  {name}\n  {:24}  {meaning}", "").ok();
    } else {
        writeln!(text, "  {name:24}  {meaning}").ok();
    }
}

/// The reference page, `docs/cli.md`.
#[cfg(test)]
fn reference_page() -> String {
    let mut page = String::from(
        "# Command line\n\nThis page is generated from the program's own table of commands \
         (`src/cli/args`); a test compares them.\n\n\
         `--flag value` and `--flag=value` are equivalent. Results go to standard output, everything else \
         to standard error. `--json` prints one object with `\"schema\": 1` at the end.\n",
    );
    tree::walk(&mut |path, _| {
        let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
        let name = if path.is_empty() { String::new() } else { format!(" {}", path.join(" ")) };
        let depth = "#".repeat(path.len().min(2) + 2);
        let help = of(&path);
        // The common options appear only once, with the program.
        let help = match help.split_once("\nCommon options:") {
            Some((own, _)) if !path.is_empty() => own,
            _ => &help,
        };
        write!(page, "\n{depth} chatto{name}\n\n```text\n{}\n```\n", help.trim_end()).ok();
    });
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_is_made_from_the_commands() {
        crate::golden::compare("docs/cli.md", &reference_page());
    }
}
