//! Generated code: message types, the method table and the value rules.
#![allow(
    unreachable_pub,
    unused_qualifications,
    deprecated,
    clippy::all,
    clippy::too_many_lines,
    reason = "generated: names and shapes come from the tables of the contract"
)]

use super::json::{Described, EnumTable, FieldTable, Kind, MessageTable, Shape};
use super::methods::{Idempotency, MethodVisitor, Rpc, Spec};
use super::rules::{Pattern, RuleViolation, Validate, check};

include!(concat!(env!("OUT_DIR"), "/contract_messages.rs"));
include!(concat!(env!("OUT_DIR"), "/contract_methods.rs"));
include!(concat!(env!("OUT_DIR"), "/contract_rules.rs"));
include!(concat!(env!("OUT_DIR"), "/contract_tables.rs"));

/// Descriptors of every message: with them prost-reflect checks our JSON form.
#[cfg(test)]
pub(super) static DESCRIPTORS: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/contract_descriptors.bin"));
