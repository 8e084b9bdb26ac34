//! Build-time part of `contract`.

pub(crate) fn generate() {}
