//! Counters of failed log-ins that all processes share: small, many, and made by whoever likes to.
//!
//! They lie in streams of their own whose newest messages are kept, so that no number of them takes the
//! memory of anything else. A message expires with its stream's age and is erased at its sequence: neither
//! leaves a delete marker.

use crate::crypto::hex;
use crate::nats::Nats;
use crate::storage::encoding::encode_value;
use crate::storage::error::StorageError;
use crate::storage::kv::CHANGE_ATTEMPTS;
use crate::storage::kv::memory::MemoryStreams;
use crate::storage::layout::stream;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// An identifier of a log-in, whether an account has it or not.
    Identifier,
    /// An IPv4 address or an IPv6 /64.
    Address,
}

/// A counter. Times are milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counter {
    pub count: u32,
    /// When the window began in which that was counted.
    pub window_ms: i64,
    /// Until when attempts wait.
    pub blocked_until_ms: i64,
}

/// A counter as it was read, and the revision a change must name.
#[derive(Debug, Clone, Copy)]
pub struct FoundCounter {
    /// Its value; zero where there is none.
    pub counter: Counter,
    revision: u64,
}

impl Counted {
    fn stream(self) -> &'static str {
        match self {
            Self::Identifier => stream::LOGIN_COUNTERS,
            Self::Address => stream::ADDRESS_COUNTERS,
        }
    }

    fn subject(self, name: &[u8; 16]) -> String {
        let kind = match self {
            Self::Identifier => "login",
            Self::Address => "address",
        };
        format!("counter.{kind}.{}", hex(name))
    }
}

/// LOGIN_COUNTERS and ADDRESS_COUNTERS.
#[derive(Clone, Copy)]
pub struct Counters<'a> {
    pub(crate) nats: &'a Nats,
    pub(crate) memory: &'a MemoryStreams,
}

impl Counters<'_> {
    /// A counter as it is now. `name` is a keyed hash: nobody learns from it who is meant.
    pub async fn get(
        self,
        counted: Counted,
        name: &[u8; 16],
    ) -> Result<FoundCounter, StorageError> {
        let found = self.memory.get(counted.stream(), &counted.subject(name)).await?;
        let (counter, revision): (Option<Counter>, u64) = found;
        Ok(FoundCounter { counter: counter.unwrap_or_default(), revision })
    }

    /// Changes a counter, beginning with what was found; `f` runs again when it has changed since. A write
    /// without answer may be counted twice. Unlike all other records, one that a newer program wrote is replaced
    /// too: an attempt that is not counted would be a free guess, and a counter lives half an hour at most.
    ///
    /// # Cancel safety
    /// After dropping it the change may or may not be stored.
    pub async fn change<T>(
        self,
        counted: Counted,
        name: &[u8; 16],
        found: FoundCounter,
        mut f: impl FnMut(&mut Counter) -> T,
    ) -> Result<T, StorageError> {
        let subject = counted.subject(name);
        let mut found = found;
        for _ in 0..CHANGE_ATTEMPTS {
            let mut counter = found.counter;
            let answer = f(&mut counter);
            if counter == found.counter
                || self.memory.put_small(&subject, encode_value(&counter), found.revision).await?
            {
                return Ok(answer);
            }
            found = self.get(counted, name).await?;
        }
        Err(StorageError::Busy)
    }

    /// Removes a counter without a trace.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn erase(self, counted: Counted, name: &[u8; 16]) -> Result<(), StorageError> {
        for _ in 0..CHANGE_ATTEMPTS {
            let found = self.get(counted, name).await?;
            if found.revision == 0 || self.nats.erase(counted.stream(), found.revision).await? {
                return Ok(());
            }
            // Somebody counted meanwhile, and has carried the failures on.
        }
        Err(StorageError::Busy)
    }
}
