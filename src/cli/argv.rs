//! Translates the shell's words into arguments for argh.
//!
//! argh 0.1.19 supports neither `--flag=value`, `-c=x`, `-ox` nor bundled switches, accepts the program's
//! own options only before the command, accepts a single-value flag twice and exits with 1 on usage errors.
//! So every word is first checked against the tree of commands and rewritten here.

use std::collections::BTreeSet;
use std::ffi::OsString;

use argh::FlagInfo;

use super::tree::{self, Node};
use crate::config::nearest;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Invocation {
    /// Run a command: arguments for argh, and the names of the command and what it is part of.
    Run { words: Vec<String>, command: Vec<String> },
    /// Show the help of the command with this path.
    Help(Vec<String>),
    /// No arguments.
    Empty,
}

/// The words are wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WrongUsage {
    /// A sentence.
    pub(super) message: String,
    /// The names of the command whose help says more; none: the program's.
    pub(super) command: Vec<String>,
}

/// Checks and rewrites the words after the program's name.
///
/// # Errors
/// [`WrongUsage`]
pub(super) fn rewrite(words: impl Iterator<Item = OsString>) -> Result<Invocation, WrongUsage> {
    let mut texts = Vec::new();
    for word in words {
        let text = word.into_string();
        let message = "an argument is not UTF-8 text".to_owned();
        texts.push(text.map_err(|_| WrongUsage { message, command: Vec::new() })?);
    }
    if texts.is_empty() {
        return Ok(Invocation::Empty);
    }
    // `chatto help user create` as well as `chatto user create --help`.
    if texts.first().is_some_and(|first| first == "help") {
        texts.remove(0);
        texts.push("--help".to_owned());
    }
    let root = tree::root();
    let mut rewriter = Rewriter {
        root: &root,
        node: &root,
        path: Vec::new(),
        common: Vec::new(),
        own: Vec::new(),
        positionals: Vec::new(),
        seen: BTreeSet::new(),
        wants_help: false,
        wants_version: false,
    };
    let read = rewriter.read(texts).and_then(|()| rewriter.finish());
    read.map_err(|message| WrongUsage { message, command: rewriter.path })
}

struct Rewriter<'a> {
    root: &'a Node,
    /// The command found so far.
    node: &'a Node,
    path: Vec<String>,
    /// Flags of the program, which argh expects first.
    common: Vec<String>,
    /// Flags of the command.
    own: Vec<String>,
    positionals: Vec<String>,
    seen: BTreeSet<String>,
    wants_help: bool,
    wants_version: bool,
}

impl<'a> Rewriter<'a> {
    fn read(&mut self, words: Vec<String>) -> Result<(), String> {
        let mut rest = words.into_iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                for word in rest.by_ref() {
                    self.argument(word)?;
                }
            } else if let Some(long) = word.strip_prefix("--") {
                self.long(long, &mut rest)?;
            } else if word.len() > 1 && word.starts_with('-') {
                self.short(word.trim_start_matches('-'), &mut rest)?;
            } else {
                self.argument(word)?;
            }
        }
        Ok(())
    }

    fn flag(&self, fits: impl Fn(&FlagInfo<'static>) -> bool) -> Option<&'a FlagInfo<'static>> {
        let own = tree::flags(self.node).find(|flag| fits(flag));
        own.or_else(|| tree::flags(self.root).find(|flag| fits(flag)))
    }

    fn long(&mut self, long: &str, rest: &mut dyn Iterator<Item = String>) -> Result<(), String> {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let name = format!("--{name}");
        match (name.as_str(), &value) {
            ("--help", None) => {
                self.wants_help = true;
                return Ok(());
            }
            ("--version", None) => {
                self.wants_version = true;
                return Ok(());
            }
            _ => {}
        }
        let Some(flag) = self.flag(|flag| flag.long == name) else {
            return Err(self.unknown_flag(&name));
        };
        self.take(flag, value, rest)
    }

    /// `-c x`, `-cx`, `-c=x`, and switches in one word.
    fn short(&mut self, word: &str, rest: &mut dyn Iterator<Item = String>) -> Result<(), String> {
        let mut chars = word.chars();
        while let Some(letter) = chars.next() {
            match letter {
                'h' => self.wants_help = true,
                'V' => self.wants_version = true,
                _ => {
                    let Some(flag) = self.flag(|flag| flag.short == Some(letter)) else {
                        return Err(self.unknown_flag(&format!("-{letter}")));
                    };
                    let tail = chars.as_str();
                    let value = match tree::value_name(flag) {
                        Some(_) if !tail.is_empty() => {
                            Some(tail.strip_prefix('=').unwrap_or(tail).to_owned())
                        }
                        None if tail.starts_with('=') => Some(String::new()),
                        _ => None,
                    };
                    let whole = value.is_some();
                    self.take(flag, value, rest)?;
                    if whole {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        flag: &FlagInfo<'static>,
        value: Option<String>,
        rest: &mut dyn Iterator<Item = String>,
    ) -> Result<(), String> {
        let name = flag.long;
        if !self.seen.insert(name.to_owned()) {
            return Err(format!("{name} is given more than once"));
        }
        let is_common = tree::flags(self.root).any(|common| common.long == name);
        let list = if is_common { &mut self.common } else { &mut self.own };
        list.push(name.to_owned());
        match (tree::value_name(flag), value) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(format!("{name} takes no value")),
            (Some(_), Some(value)) => {
                list.push(value);
                Ok(())
            }
            (Some(what), None) => match rest.next() {
                Some(value) => {
                    list.push(value);
                    Ok(())
                }
                None => Err(format!("{name} needs a value: {name} <{what}>")),
            },
        }
    }

    fn argument(&mut self, word: String) -> Result<(), String> {
        if self.node.commands.is_empty() {
            self.positionals.push(word);
            return Ok(());
        }
        let name = if self.path.is_empty() && word == "run" { "start" } else { word.as_str() };
        if let Some(command) = tree::subcommand(self.node, name) {
            // Flags that came before the command were looked up in the program alone.
            self.node = &command.command;
            self.path.push(name.to_owned());
            return Ok(());
        }
        let names = self.node.commands.iter().map(|command| command.name);
        let what = match self.path.join(" ") {
            path if path.is_empty() => format!("unknown command `{word}`"),
            path => format!("unknown command `{path} {word}`"),
        };
        Err(match nearest(&word, names.clone()) {
            Some(near) => format!("{what}; did you mean `{near}`?"),
            None => format!("{what}; available commands: {}", names.collect::<Vec<_>>().join(", ")),
        })
    }

    fn unknown_flag(&self, name: &str) -> String {
        let known = tree::flags(self.node).chain(tree::flags(self.root)).map(|flag| flag.long);
        match nearest(name, known.chain(["--help"])) {
            Some(near) => format!("unknown option `{name}`; did you mean `{near}`?"),
            None => format!("unknown option `{name}`"),
        }
    }

    fn finish(&self) -> Result<Invocation, String> {
        let command = self.path.clone();
        if self.wants_help {
            return Ok(Invocation::Help(command));
        }
        if !self.wants_version && self.node.commands.is_empty() {
            self.count_positionals()?;
        }
        let mut words = self.common.clone();
        if self.wants_version {
            words.push("version".to_owned());
            return Ok(Invocation::Run { words, command });
        }
        if tree::needs_subcommand(self.node, self.path.is_empty()) {
            let names: Vec<&str> = self.node.commands.iter().map(|command| command.name).collect();
            let after = self.path.last().map(|name| format!(" after `{name}`")).unwrap_or_default();
            return Err(format!(
                "missing command{after}; available commands: {}",
                names.join(", ")
            ));
        }
        words.extend_from_slice(&command);
        words.extend_from_slice(&self.own);
        if self.positionals.iter().any(|word| word.starts_with('-')) {
            words.push("--".to_owned());
        }
        words.extend_from_slice(&self.positionals);
        Ok(Invocation::Run { words, command })
    }

    fn count_positionals(&self) -> Result<(), String> {
        let expected = self.node.positionals;
        let takes_more = expected.last().is_some_and(tree::repeats);
        if let Some(extra) = self.positionals.get(expected.len())
            && !takes_more
        {
            return Err(format!(
                "`{}` takes no further arguments, but got `{extra}`",
                self.path.join(" ")
            ));
        }
        match expected.get(self.positionals.len()) {
            Some(missing) if !tree::is_optional(missing) => {
                let path = self.path.join(" ");
                Err(format!("`{path}` needs an argument: <{}>", missing.name))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Invocation, WrongUsage> {
        rewrite(line.split_whitespace().map(OsString::from))
    }

    fn words(line: &str) -> String {
        match run(line) {
            Ok(Invocation::Run { words, .. }) => words.join(" "),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_spelling_of_a_flag() {
        for (line, expected) in [
            ("start -c chatto.toml", "--config chatto.toml start"),
            ("start --config=chatto.toml", "--config chatto.toml start"),
            ("start -cchatto.toml", "--config chatto.toml start"),
            ("start -c=chatto.toml", "--config chatto.toml start"),
            ("-c a start", "--config a start"),
            ("run -qc a", "--quiet --config a start"),
            ("user list --limit=5 --json", "--json user list --limit 5"),
            ("user role add anna owner", "user role add anna owner"),
            ("user set-password -- -anna", "user set-password -- -anna"),
            ("--version", "version"),
            ("-V", "version"),
            ("user create --password=a=b --login x", "user create --password a=b --login x"),
            ("backup list", "backup list"),
            ("backup extract x a b -o d", "backup extract --output d x a b"),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
        assert_eq!(
            run("user create -h"),
            Ok(Invocation::Help(vec!["user".into(), "create".into()]))
        );
        assert_eq!(run("--help"), Ok(Invocation::Help(Vec::new())));
        assert_eq!(run(""), Ok(Invocation::Empty));
    }

    #[test]
    fn wrong_usage_says_what_is_wrong() {
        for (line, expected) in [
            ("strat", "unknown command `strat`; did you mean `start`?"),
            ("user crate", "unknown command `user crate`; did you mean `create`?"),
            ("start --confg x", "unknown option `--confg`; did you mean `--config`?"),
            ("start -x", "unknown option `-x`"),
            ("start -c a -c b", "--config is given more than once"),
            ("start --json=yes", "--json takes no value"),
            ("start -c", "--config needs a value: --config <file>"),
            (
                "user",
                "missing command after `user`; available commands: create, list, set-password, role",
            ),
            ("backup list a b", "`backup list` takes no further arguments, but got `b`"),
            ("backup extract", "`backup extract` needs an argument: <file>"),
            ("start now", "`start` takes no further arguments, but got `now`"),
            ("user role add anna", "`user role add` needs an argument: <role>"),
        ] {
            assert_eq!(run(line).unwrap_err().message, expected, "{line}");
        }
        for (line, command) in [
            ("strat", ""),
            ("--confg x", ""),
            ("start -x", "start"),
            ("user crate", "user"),
            ("backup extract", "backup extract"),
            ("backup verify x --level=low --nope", "backup verify"),
        ] {
            assert_eq!(run(line).unwrap_err().command.join(" "), command, "{line}");
        }
        // A command that also runs without its subcommand.
        assert!(run("backup").is_ok() && run("backup verify x").is_ok());
        assert!(run("backup x").is_err() && run("backup verify").is_err());
    }

    #[test]
    fn a_word_that_is_not_utf8_is_wrong_usage() {
        use std::os::unix::ffi::OsStringExt;
        let word = OsString::from_vec(vec![0xff]);
        assert!(rewrite([word].into_iter()).is_err());
    }
}
