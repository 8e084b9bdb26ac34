//! How much of a limited resource one holder may have.

use std::collections::HashMap;
use std::hash::Hash;

/// How much of a limited resource each holder, such as a client address, has taken. None gets more than its share:
/// half, rounded up.
#[derive(Debug)]
pub struct Shares<K> {
    share: usize,
    held: HashMap<K, usize>,
}

/// The holder already has its share, or would have more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareTaken;

impl<K: Copy + Eq + Hash> Shares<K> {
    /// The shares of a resource of which there is `total`.
    #[must_use]
    pub fn of(total: usize) -> Self {
        Self { share: Self::share_of(total), held: HashMap::new() }
    }

    /// What one holder may take of `total`.
    #[must_use]
    pub fn share_of(total: usize) -> usize {
        total.div_ceil(2)
    }

    /// Whether a holder may take `amount` more.
    #[must_use]
    pub fn has_room(&self, holder: K, amount: usize) -> bool {
        let held = self.held.get(&holder).copied().unwrap_or_default();
        held.saturating_add(amount) <= self.share
    }

    /// Takes `amount` for a holder.
    ///
    /// # Errors
    /// [`ShareTaken`] when that is more than its share allows.
    pub fn take(&mut self, holder: K, amount: usize) -> Result<(), ShareTaken> {
        if !self.has_room(holder, amount) {
            return Err(ShareTaken);
        }
        let held = self.held.entry(holder).or_default();
        *held = held.saturating_add(amount);
        Ok(())
    }

    /// Returns `amount` that a holder took.
    pub fn release(&mut self, holder: K, amount: usize) {
        if let Some(held) = self.held.get_mut(&holder) {
            *held = held.saturating_sub(amount);
            if *held == 0 {
                self.held.remove(&holder);
            }
        }
    }

    /// Whether nobody holds anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_gets_half_rounded_up_and_nothing_is_kept_of_who_holds_nothing() {
        let mut shares = Shares::of(5);
        assert_eq!(shares.take('a', 3), Ok(()));
        assert_eq!(shares.take('a', 1), Err(ShareTaken));
        assert_eq!(shares.take('b', 4), Err(ShareTaken));
        assert!(shares.has_room('b', 3) && !shares.has_room('b', usize::MAX));
        shares.release('a', 2);
        assert_eq!(shares.take('a', 2), Ok(()));
        shares.release('a', 3);
        assert!(shares.is_empty());
        assert_eq!(Shares::of(1).take('a', 1), Ok(()));
    }
}
