//! The journal: appending an event at the position it was decided for.

pub(crate) mod append;
