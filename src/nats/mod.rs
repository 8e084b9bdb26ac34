//! The NATS client: one connection per process, streams, acknowledged publishing with expected sequences, batch
//! direct reads, reads from a stream's leader, secure erase and core subscriptions.
//!
//! It knows JetStream's requests but not what is stored. Every request has a deadline
//! ([`crate::limits::NATS_REQUEST_TIMEOUT`]); retrying is up to the caller, who knows whether a
//! duplicate is harmless, or to [`Commit`] for a message that can be sent twice.

mod commit;
mod connect;
mod epoch_check;
mod error;
mod publish;
mod read;
mod streams;
mod subscribe;

pub use async_nats::jetstream::stream::{
    Config as StreamConfig, DiscardPolicy, Info as StreamInfo, Republish, StorageType,
};
pub use commit::{Commit, Outcome};
pub use connect::{Auth, ConnectError, Nats, OLDEST_SERVER, Target, Version, WritesRefused};
pub use epoch_check::Moment;
pub use error::{NatsError, PublishError};
pub use publish::{Ack, Publish};
pub use read::{Batch, BatchRead, ReadPurpose, StoredMessage};
pub use streams::AccountInfo;
pub use subscribe::{Message, Subscription};
