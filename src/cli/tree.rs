//! The tree of commands and flags, read from the argument types: what the argument checker, help,
//! completions and the reference page share.

use argh::{
    ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo,
    SubCommandInfo,
};

use super::args::Chatto;

/// A command, or the program itself.
pub(super) type Node = CommandInfoWithArgs;

/// The program.
pub(super) fn root() -> Node {
    Chatto::get_args_info()
}

/// The flags of a command, without argh's own help.
pub(super) fn flags(node: &Node) -> impl Iterator<Item = &FlagInfo<'static>> {
    node.flags.iter().filter(|flag| !flag.hidden && flag.long != "--help")
}

/// The subcommand of a name.
pub(super) fn subcommand<'a>(node: &'a Node, name: &str) -> Option<&'a SubCommandInfo> {
    node.commands.iter().find(|command| command.name == name)
}

/// Whether a command must be followed by one of its subcommands. One that has flags of its own also runs alone.
pub(super) fn needs_subcommand(node: &Node, is_root: bool) -> bool {
    !node.commands.is_empty() && (is_root || flags(node).next().is_none())
}

/// The name of a flag's value; `None` for a switch.
pub(super) fn value_name(flag: &FlagInfo<'static>) -> Option<&'static str> {
    match flag.kind {
        FlagInfoKind::Switch => None,
        FlagInfoKind::Option { arg_name } => Some(arg_name),
    }
}

/// Whether a command runs without this argument.
pub(super) fn is_optional(positional: &PositionalInfo<'static>) -> bool {
    !matches!(positional.optionality, Optionality::Required)
}

/// Whether this argument takes all that are left.
pub(super) fn repeats(positional: &PositionalInfo<'static>) -> bool {
    matches!(positional.optionality, Optionality::Repeating | Optionality::Greedy)
}

/// An argument as the usage shows it: `<file>`, `[<directory>]`, `[<room|asset>...]`.
pub(super) fn usage_of(positional: &PositionalInfo<'static>) -> String {
    let name = positional.name;
    match (is_optional(positional), repeats(positional)) {
        (_, true) => format!("[<{name}>...]"),
        (true, false) => format!("[<{name}>]"),
        (false, false) => format!("<{name}>"),
    }
}

/// Calls `visit` for every command, parents first, with its path of names.
pub(super) fn walk(visit: &mut dyn FnMut(&[&str], &Node)) {
    fn below<'a>(path: &mut Vec<&'a str>, node: &'a Node, visit: &mut dyn FnMut(&[&str], &Node)) {
        visit(path, node);
        for command in &node.commands {
            path.push(command.name);
            below(path, &command.command, visit);
            path.pop();
        }
    }
    let root = root();
    below(&mut Vec::new(), &root, visit);
}
