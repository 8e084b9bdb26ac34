//! Build-time part of `supervisor`.

pub(crate) fn embed() {}
