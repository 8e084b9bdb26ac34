//! The public client API as types: messages, their two encodings, value rules, the table of methods.
//!
//! The `.proto` files under `proto/` are the source. The build script (`codegen/`) compiles them and
//! generates three things: the message types ([`api`], [`admin`], [`auth`], [`discovery`], [`realtime`]), an
//! implementation of [`Validate`] for every message a request can contain, from the options of the fields
//! (`chatto/rules/v1/rules.proto`), and the [`Method`] table with one type per method ([`rpc`]).
//!
//! A call uses this module in this order: [`Method::from_path`], its [`CallAccess`] and [`SizeClass`], [`decode`],
//! [`Validate::validate`], the handler, [`encode`]; an error becomes a [`Code`] and an [`ErrorBody`].
//! prost reads and writes [`Encoding::Proto`]. [`Encoding::Json`] is translated to and from prost's bytes with
//! constant tables, because no JSON codec for prost treats `null`, unknown names and presence as the contract
//! requires, and reflection at run time takes 16 MB. The tests compare the JSON form with prost-reflect.
//!
//! This module knows shapes, not meaning: it reads no clock, stores nothing and knows no permissions.
//! `docs/contract.md` says how to add a field, `docs/development.md` how to add a method.

mod code;
mod codec;
mod generated;
mod json;
mod methods;
mod rules;
pub mod texts;
mod version;

#[cfg(test)]
mod tests;

pub use prost_types::Timestamp;

pub use code::{Code, ErrorBody};
pub use codec::{DecodeError, EncodeError, Encoding, Wire, binary, decode, encode};
pub use generated::chatto::{
    admin::v1 as admin, api::v1 as api, auth::v1 as auth, discovery::v1 as discovery,
    realtime::v1 as realtime,
};
pub use generated::{Method, each_method, rpc};
pub use json::{Described, JsonEncodeError, MessageTable};
pub use methods::{
    CallAccess, Idempotency, MethodVisitor, RequestMessage, Rpc, SizeClass, method_list,
};
pub use rules::{Rule, RuleViolation, Validate};
pub use version::SERVER_VERSION;
