//! `completions`: scripts for bash, zsh and fish, generated from the tree of commands.

use std::fmt::Write as _;

use super::args::{Completions, Shell};
use super::output::print_stdout;
use super::tree::{self, Node};
use super::{CliError, Exit};

pub(super) fn run(args: &Completions) -> Result<Exit, CliError> {
    print_stdout(&script(args.shell));
    Ok(Exit::Success)
}

fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => {
            format!("#compdef chatto\nautoload -U +X bashcompinit && bashcompinit\n{}", bash())
        }
        Shell::Fish => fish(),
    }
}

/// Words that may follow a command: its subcommands and flags, and the common flags.
fn words(node: &Node, root: &Node) -> String {
    let commands = node.commands.iter().map(|command| command.name);
    let flags = tree::flags(node).chain(tree::flags(root)).map(|flag| flag.long);
    let mut words: Vec<&str> = commands.chain(flags).chain(["--help"]).collect();
    let mut seen = std::collections::BTreeSet::new();
    words.retain(|word| seen.insert(*word));
    words.join(" ")
}

/// One function: it follows the commands typed so far, then offers what may come next.
fn bash() -> String {
    let root = tree::root();
    let mut cases = String::new();
    let mut files = std::collections::BTreeSet::new();
    tree::walk(&mut |path, node| {
        writeln!(cases, "    '{}') words='{}' ;;", path.join(" "), words(node, &root)).ok();
        for flag in tree::flags(node) {
            if tree::value_name(flag) == Some("file") {
                files.insert(flag.long);
                if flag.short == Some('c') {
                    files.insert("-c");
                }
            }
        }
    });
    let files: Vec<&str> = files.into_iter().collect();
    let mut names = Vec::new();
    tree::walk(&mut |path, _| names.push(format!("'{}'", path.join(" "))));
    format!(
        "_chatto() {{\n  local word path= words= known=\"{}\"\n  \
         local current=\"${{COMP_WORDS[COMP_CWORD]}}\" previous=\"${{COMP_WORDS[COMP_CWORD-1]}}\"\n  \
         case \"$previous\" in {}) COMPREPLY=($(compgen -f -- \"$current\")); return ;; esac\n  \
         for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n    \
         case \"$known\" in *\"|${{path:+$path }}$word|\"*) path=\"${{path:+$path }}$word\" ;; esac\n  done\n  \
         case \"$path\" in\n{cases}  esac\n  \
         COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n}}\n\
         complete -o default -F _chatto chatto\n",
        names.iter().map(|name| format!("|{}|", name.trim_matches('\''))).collect::<String>(),
        files.join("|"),
    )
}

fn fish() -> String {
    let mut script = String::from("complete -c chatto -f\n");
    tree::walk(&mut |path, node| {
        let children: Vec<&str> = node.commands.iter().map(|command| command.name).collect();
        let condition = match path {
            [] => "__fish_use_subcommand".to_owned(),
            _ => {
                let seen: Vec<String> =
                    path.iter().map(|name| format!("__fish_seen_subcommand_from {name}")).collect();
                let mut condition = seen.join("; and ");
                if !children.is_empty() {
                    let names = children.join(" ");
                    write!(condition, "; and not __fish_seen_subcommand_from {names}").ok();
                }
                condition
            }
        };
        for command in &node.commands {
            let about = first_sentence(command.command.description);
            writeln!(
                script,
                "complete -c chatto -n '{condition}' -a {} -d '{about}'",
                command.name
            )
            .ok();
        }
        let condition = if path.is_empty() { String::new() } else { format!(" -n '{condition}'") };
        for flag in tree::flags(node) {
            let long = flag.long.trim_start_matches('-');
            let short = flag.short.map(|letter| format!(" -s {letter}")).unwrap_or_default();
            let value = match tree::value_name(flag) {
                Some("file") => " -r -F",
                Some(_) => " -x",
                None => "",
            };
            let about = first_sentence(flag.description);
            writeln!(script, "complete -c chatto{condition} -l {long}{short}{value} -d '{about}'")
                .ok();
        }
    });
    script
}

/// The text up to its first `;` or full stop, without quotes.
fn first_sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = text.find([';', '.']).unwrap_or(text.len());
    text.get(..end).unwrap_or(&text).replace('\'', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packaged_scripts_are_made_from_the_commands() {
        for (shell, name) in
            [(Shell::Bash, "chatto.bash"), (Shell::Zsh, "_chatto"), (Shell::Fish, "chatto.fish")]
        {
            crate::golden::compare(&format!("packaging/completions/{name}"), &script(shell));
        }
    }
}
