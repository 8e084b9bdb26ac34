//! Printing.

use std::io::IsTerminal as _;

use serde_json::{Map, Value, json};

use super::CliError;
use crate::backup::archive;
use crate::observe::{Stream, print};

/// How results are printed.
pub(super) struct Output {
    /// One JSON object instead of text.
    pub(super) json: bool,
    /// Results and errors only.
    pub(super) quiet: bool,
}

impl Output {
    /// A result: `text` for people, the object's fields for programs.
    pub(super) fn result(&self, text: &str, fields: Value) {
        if self.json {
            self.object(fields);
        } else if std::io::stdout().is_terminal() {
            print_stdout(&printable(text));
        } else {
            // A program needs a path as it is.
            print_stdout(text);
        }
    }

    fn object(&self, fields: Value) {
        let mut object = Map::new();
        object.insert("schema".to_owned(), json!(1));
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        print_stdout(&format!("{}\n", Value::Object(object)));
    }

    /// Additional information besides the result.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            print_stderr(&printable(text));
        }
    }

    /// Something that may be unexpected.
    pub(super) fn warning(&self, text: &str) {
        self.note(&format!("warning: {text}"));
    }

    /// Prints why the command failed, after the program's name; configuration faults are several errors, one line each.
    pub(super) fn error(&self, error: &CliError) {
        let text = match error.is_list {
            true => error.message.replace('\n', "\nchatto: "),
            false => error.message.clone(),
        };
        let hint = error.hint.map(|hint| format!(". {hint}")).unwrap_or_default();
        print_stderr(&printable(&format!("chatto: {text}{hint}")));
        if self.json {
            let exit = error.exit.code();
            self.object(json!({ "error": { "message": error.message, "exit": exit } }));
        }
    }
}

/// A text without what a terminal would obey, such as a control character in the name of a file.
pub(super) fn printable(text: &str) -> String {
    archive::printable(text.chars(), "\n\t")
}

/// A field of a result; null if it is missing.
pub(super) fn field<'a>(object: &'a Value, name: &str) -> &'a Value {
    object.get(name).unwrap_or(&Value::Null)
}

/// A field's text; empty if it is missing.
pub(super) fn text_field<'a>(object: &'a Value, name: &str) -> &'a str {
    field(object, name).as_str().unwrap_or_default()
}

/// A line of columns, separated by tabs. Control characters are replaced, since a tab or line end would shift the columns.
pub(super) fn row<const N: usize>(columns: [&str; N]) -> String {
    let columns = columns.map(|column| column.replace(char::is_control, " "));
    format!("{}\n", columns.join("\t"))
}

/// Writes to standard output as it is.
pub(super) fn print_stdout(text: &str) {
    print(Stream::Output, text.to_owned());
}

/// Writes to standard error as it is.
pub(super) fn print_stderr_raw(text: &str) {
    print(Stream::Error, text.to_owned());
}

/// Writes lines to standard error.
pub(super) fn print_stderr(text: &str) {
    print(Stream::Error, format!("{text}\n"));
}
