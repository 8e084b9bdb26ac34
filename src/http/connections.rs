//! The open connections: how many there may be, whose they are, and which one is evicted for a new one.
//!
//! At the limit, a new connection evicts the HTTP connection that has been idle for longest. A connection that
//! is answering a request, or has become a WebSocket, is never evicted. No client address holds more than half.
//!
//! A connection from a trusted proxy carries the requests of many clients. It counts for a client only while it
//! answers a request of that client, or once it has become that client's WebSocket.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::config::Network;
use crate::domain::{ClientNetwork, Shares};
use crate::runtime::Stop;
use parking_lot::{Mutex, MutexGuard};

/// See the module.
#[derive(Debug)]
pub(super) struct Connections {
    max: usize,
    trusted: Vec<Network>,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    /// The next number: names connections, and orders them by when they became idle.
    next: u64,
    all: HashMap<u64, Entry>,
    /// The idle ones, the longest idle first.
    idle: BTreeMap<u64, u64>,
    shares: Shares<ClientNetwork>,
}

#[derive(Debug)]
struct Entry {
    /// The client it counts for.
    client: Option<ClientNetwork>,
    /// Its key among the idle ones.
    idle: Option<u64>,
    eviction: Stop,
}

/// Why a request is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BeginError {
    /// The connection was evicted for another one.
    Evicted,
    /// The client already holds half of the connections.
    ShareTaken,
}

impl Connections {
    /// At most `max` at a time; connections from `trusted` peers belong to the clients that these name.
    pub(super) fn new(max: usize, trusted: Vec<Network>) -> Arc<Self> {
        let open =
            Open { next: 0, all: HashMap::new(), idle: BTreeMap::new(), shares: Shares::of(max) };
        Arc::new(Self { max, trusted, open: Mutex::new(open) })
    }

    /// Admits a new connection, and evicts an idle one for it if necessary. `None` when none is idle.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<ConnectionPermit> {
        let peer = peer.to_canonical();
        let is_proxy = self.trusted.iter().any(|net| net.contains(peer));
        let client = (!is_proxy).then(|| ClientNetwork::from(peer));
        let mut open = self.lock();
        if let Some(client) = client
            && !open.shares.has_room(client, 1)
        {
            let own = open.longest_idle(|entry| entry.client == Some(client))?;
            open.evict(own);
        } else if open.all.len() >= self.max {
            let oldest = open.longest_idle(|_| true)?;
            open.evict(oldest);
        }
        if let Some(client) = client {
            open.shares.take(client, 1).ok()?;
        }
        let eviction = Stop::new();
        let id = open.number();
        let entry = Entry { client, idle: Some(id), eviction: eviction.clone() };
        open.all.insert(id, entry);
        // It has sent nothing yet, so it begins as idle.
        open.idle.insert(id, id);
        Some(ConnectionPermit { connections: Arc::clone(self), id, is_proxy, eviction })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }
}

impl Open {
    fn number(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn longest_idle(&self, is_meant: impl Fn(&Entry) -> bool) -> Option<u64> {
        let mut idle = self.idle.values();
        idle.find(|id| self.all.get(id).is_some_and(&is_meant)).copied()
    }

    /// Frees the permit at once; the task of the connection ends when it is next polled.
    fn evict(&mut self, id: u64) {
        if let Some(entry) = self.remove(id) {
            entry.eviction.stop();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.all.remove(&id)?;
        if let Some(key) = entry.idle {
            self.idle.remove(&key);
        }
        if let Some(client) = entry.client {
            self.shares.release(client, 1);
        }
        Some(entry)
    }
}

/// Proof of an open connection. Dropping the last holder, an upgraded connection included, makes room for another
/// one.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    connections: Arc<Connections>,
    id: u64,
    is_proxy: bool,
    eviction: Stop,
}

impl ConnectionPermit {
    /// Runs a connection until it ends, or is evicted for another one.
    pub(super) async fn run_until_evicted<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.eviction.or(work).await
    }

    /// A request has arrived: the connection is not evicted until it is idle again.
    ///
    /// # Errors
    /// [`BeginError::Evicted`].
    pub(super) fn begin_request(&self) -> Result<(), BeginError> {
        let mut open = self.connections.lock();
        let entry = open.all.get_mut(&self.id).ok_or(BeginError::Evicted)?;
        if let Some(key) = entry.idle.take() {
            open.idle.remove(&key);
        }
        Ok(())
    }

    /// The request is from this client.
    ///
    /// # Errors
    /// [`BeginError::ShareTaken`].
    pub(super) fn count_for(&self, client: IpAddr) -> Result<(), BeginError> {
        // Any other connection has counted for its peer since it was accepted.
        if !self.is_proxy {
            return Ok(());
        }
        let client = ClientNetwork::from(client);
        let mut open = self.connections.lock();
        let entry = open.all.get_mut(&self.id).ok_or(BeginError::Evicted)?;
        if let Some(former) = entry.client.take() {
            open.shares.release(former, 1);
        }
        open.shares.take(client, 1).map_err(|_| BeginError::ShareTaken)?;
        let entry = open.all.get_mut(&self.id).ok_or(BeginError::Evicted)?;
        entry.client = Some(client);
        Ok(())
    }

    /// The response has been sent: the connection may be evicted.
    pub(super) fn mark_idle(&self) {
        let mut open = self.connections.lock();
        let key = open.number();
        let Some(entry) = open.all.get_mut(&self.id) else { return };
        if entry.idle.is_some() {
            return;
        }
        entry.idle = Some(key);
        let former = if self.is_proxy { entry.client.take() } else { None };
        open.idle.insert(key, self.id);
        if let Some(former) = former {
            open.shares.release(former, 1);
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connections.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "192.0.2.1";
    const B: &str = "192.0.2.2";
    const PROXY: &str = "127.0.0.1";

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn connections(max: usize) -> Arc<Connections> {
        Connections::new(max, Network::loopback())
    }

    fn was_evicted(permit: &ConnectionPermit) -> bool {
        permit.eviction.is_stopped()
    }

    #[test]
    fn the_longest_idle_one_is_evicted_and_busy_ones_are_not() {
        let all = connections(3);
        let [first, second, third] = [PROXY; 3].map(|peer| all.admit(address(peer)).unwrap());
        first.begin_request().unwrap();
        second.begin_request().unwrap();
        second.mark_idle();
        let fourth = all.admit(address(PROXY)).unwrap();
        assert!(was_evicted(&third), "idle since it was accepted");
        assert_eq!(third.begin_request(), Err(BeginError::Evicted));
        // Too late: its permit has gone to another one.
        third.mark_idle();
        fourth.begin_request().unwrap();
        let fifth = all.admit(address(PROXY)).unwrap();
        assert!(was_evicted(&second) && !was_evicted(&first));
        fifth.begin_request().unwrap();
        assert!(all.admit(address(PROXY)).is_none(), "none is idle");
        drop(third);
        assert!(all.admit(address(PROXY)).is_none(), "a permit is returned once, not twice");
        drop(first);
        assert!(all.admit(address(PROXY)).is_some());
    }

    #[test]
    fn a_client_holds_half_and_its_own_idle_one_is_evicted() {
        let all = connections(4);
        let [first, second] = [A; 2].map(|peer| all.admit(address(peer)).unwrap());
        let other = all.admit(address(B)).unwrap();
        first.begin_request().unwrap();
        let third = all.admit(address(A)).unwrap();
        assert!(was_evicted(&second) && !was_evicted(&other));
        third.begin_request().unwrap();
        assert!(all.admit(address(A)).is_none(), "its half is busy, whoever else is idle");
        assert!(all.admit(address(B)).is_some());
        drop((first, third));
        assert!(all.lock().shares.has_room(address(A).into(), 2));
    }

    #[test]
    fn a_proxys_connection_counts_for_the_client_of_its_request() {
        let all = connections(4);
        let [first, second, third] = [PROXY; 3].map(|peer| all.admit(address(peer)).unwrap());
        for permit in [&first, &second, &third] {
            permit.begin_request().unwrap();
        }
        first.count_for(address(A)).unwrap();
        second.count_for(address(A)).unwrap();
        assert_eq!(third.count_for(address(A)), Err(BeginError::ShareTaken));
        third.count_for(address(B)).unwrap();
        first.mark_idle();
        third.count_for(address(A)).unwrap();
        drop((first, second, third));
        let open = all.lock();
        assert!(open.shares.is_empty() && open.idle.is_empty() && open.all.is_empty());
    }
}
