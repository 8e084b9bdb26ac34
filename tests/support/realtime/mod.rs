//! A client of `/api/realtime` that behaves like existing ones. [`Socket`] sends and receives frames; [`State`]
//! keeps what a client would keep, and fails the test at whatever a client could not apply; [`Follower`] is both.

mod check;
mod follower;
mod reducer;
mod socket;
mod state;

pub(crate) use follower::{CatchUp, Follower};
pub(crate) use reducer::Script;
pub(crate) use socket::{Endpoint, Key, Received, Response, Socket};
pub(crate) use state::State;

pub(crate) use chatto::contract::{api, realtime as wire};
pub(crate) use wire::realtime_client_frame::Frame as Sent;
pub(crate) use wire::realtime_projection_operation::Operation;
pub(crate) use wire::realtime_server_frame::Frame;
