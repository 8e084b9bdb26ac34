//! An error with its causes.

use std::error::Error;

/// An error and its causes in one line. A cause whose text is already part of the line is left out.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let text = source.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = source.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        #[source]
        cause: Option<Box<Link>>,
    }

    #[test]
    fn each_cause_is_printed_once() {
        let error = |text, cause: Option<Link>| Link { text, cause: cause.map(Box::new) };
        let inner = error("disk full", None);
        let middle = error("cannot write", Some(inner));
        let outer = error("cannot write. Free some space", Some(middle));
        assert_eq!(chain(&outer), "cannot write. Free some space: disk full");
    }
}
