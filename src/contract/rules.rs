//! Value rules: what a request must satisfy before anything else uses it.
//!
//! The rules are field options in the `.proto` files; the build script turns them into one [`Validate`]
//! implementation for each message that a request can contain. This module has what that code calls. It knows no
//! domain rules: that a login must not end in a period is checked elsewhere.

use std::sync::OnceLock;

use regex::Regex;

use super::generated::Method;
use super::texts;

/// A value rule with its bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// At least so many Unicode code points.
    #[error("must have at least {0} characters")]
    MinLength(usize),
    /// At most so many Unicode code points.
    #[error("must have at most {0} characters")]
    MaxLength(usize),
    #[error("must have at least {0} bytes")]
    MinBytes(usize),
    /// At most so many bytes; UTF-8 for a text.
    #[error("must have at most {0} bytes")]
    MaxBytes(usize),
    #[error("must have at least {0} elements")]
    MinItems(usize),
    #[error("must have at most {0} elements")]
    MaxItems(usize),
    #[error("must match {0}")]
    Pattern(&'static str),
    #[error("must be a value the enum lists")]
    DefinedOnly,
    /// Not this number of an enum.
    #[error("must not be {0}")]
    NotIn(i32),
    #[error("must be at least {0}")]
    AtLeast(i64),
    #[error("must be at most {0}")]
    AtMost(i64),
}

/// The first value rule that a request violates. Its text names the field and the rule, never the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct RuleViolation {
    /// Path of the field by its names in the `.proto` file: `items[3].id`.
    pub field: String,
    pub rule: Rule,
}

/// A message with value rules; implemented for every request and the messages inside it.
pub trait Validate {
    /// Checks every rule of this message and of the messages inside it, in field order.
    ///
    /// # Errors
    /// The first rule that does not hold.
    fn validate(&self) -> Result<(), RuleViolation>;
}

impl RuleViolation {
    /// The text of the error. Clients compare a few of them literally (contract, section 3.3).
    #[must_use]
    pub fn text(&self, method: Method) -> String {
        use Method::{RoomServiceCreateRoom, RoomServiceUpdateRoom};
        let is_room = matches!(method, RoomServiceCreateRoom | RoomServiceUpdateRoom);
        match (self.field.as_str(), &self.rule) {
            ("name", Rule::MaxLength(_)) if is_room => texts::ROOM_NAME_TOO_LONG.to_owned(),
            ("description", Rule::MaxLength(_)) if is_room => {
                texts::ROOM_DESCRIPTION_TOO_LONG.to_owned()
            }
            _ => self.to_string(),
        }
    }

    /// The same violation, seen from the message that holds the field `outer`.
    pub(super) fn inside(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), ..self }
    }

    /// As [`RuleViolation::inside`], for an element of the list `outer`.
    pub(super) fn inside_item(self, outer: &str, position: usize) -> Self {
        Self { field: format!("{outer}[{position}].{}", self.field), ..self }
    }

    /// The violation is in an element of the list it names.
    pub(super) fn at(self, position: usize) -> Self {
        Self { field: format!("{}[{position}]", self.field), ..self }
    }
}

/// A pattern that is compiled at its first use.
pub(super) struct Pattern {
    source: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub(super) const fn new(source: &'static str) -> Self {
        Self { source, compiled: OnceLock::new() }
    }

    /// `None` when the source is not a valid pattern; a test compiles all of them.
    pub(super) fn compiled(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| Regex::new(self.source).ok()).as_ref()
    }
}

/// One function per rule, called by generated code.
pub(super) mod check {
    use super::{Pattern, Rule, RuleViolation};

    type CheckResult = Result<(), RuleViolation>;

    fn require(holds: bool, field: &str, rule: Rule) -> CheckResult {
        if holds { Ok(()) } else { Err(RuleViolation { field: field.to_owned(), rule }) }
    }

    pub(crate) fn min_chars(field: &str, text: &str, min: usize) -> CheckResult {
        require(text.chars().take(min).count() == min, field, Rule::MinLength(min))
    }

    pub(crate) fn max_chars(field: &str, text: &str, max: usize) -> CheckResult {
        // A character has at least one byte, so most texts need no counting.
        let holds = text.len() <= max || text.chars().nth(max).is_none();
        require(holds, field, Rule::MaxLength(max))
    }

    pub(crate) fn min_bytes(field: &str, actual: usize, min: usize) -> CheckResult {
        require(actual >= min, field, Rule::MinBytes(min))
    }

    pub(crate) fn max_bytes(field: &str, actual: usize, max: usize) -> CheckResult {
        require(actual <= max, field, Rule::MaxBytes(max))
    }

    pub(crate) fn min_items(field: &str, actual: usize, min: usize) -> CheckResult {
        require(actual >= min, field, Rule::MinItems(min))
    }

    pub(crate) fn max_items(field: &str, actual: usize, max: usize) -> CheckResult {
        require(actual <= max, field, Rule::MaxItems(max))
    }

    pub(crate) fn matches(field: &str, text: &str, pattern: &Pattern) -> CheckResult {
        require(
            pattern.compiled().is_some_and(|regex| regex.is_match(text)),
            field,
            Rule::Pattern(pattern.source),
        )
    }

    pub(crate) fn defined(field: &str, is_defined: bool) -> CheckResult {
        require(is_defined, field, Rule::DefinedOnly)
    }

    pub(crate) fn not_in(field: &str, value: i32, refused: &[i32]) -> CheckResult {
        require(!refused.contains(&value), field, Rule::NotIn(value))
    }

    pub(crate) fn at_least(field: &str, value: i64, min: i64) -> CheckResult {
        require(value >= min, field, Rule::AtLeast(min))
    }

    pub(crate) fn at_most(field: &str, value: i64, max: i64) -> CheckResult {
        require(value <= max, field, Rule::AtMost(max))
    }
}
