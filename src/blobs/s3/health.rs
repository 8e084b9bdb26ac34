//! Whether the S3 service can be used, as its responses say: counted, and logged once per change.

use parking_lot::Mutex;

use super::S3Error;
use crate::observe::chain;

/// What the responses of the service say. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3Health {
    /// Whether the last request was answered; `None`: none was sent yet.
    pub usable: Option<bool>,
    /// Since when that is so.
    pub since_ms: i64,
    /// Requests that failed, repetitions not counted.
    pub errors: u64,
    pub last_error: Option<String>,
}

/// Keeps the health of one bucket.
#[derive(Debug, Default)]
pub(super) struct HealthRecord(Mutex<S3Health>);

impl HealthRecord {
    pub(super) fn get(&self) -> S3Health {
        self.0.lock().clone()
    }

    /// Notes how a request ended. What concerns some requests only is counted and changes nothing else: the state would
    /// change back with the next request.
    pub(super) fn note<T>(&self, result: &Result<T, S3Error>, now_ms: i64) {
        match result {
            Err(error) if error.is_fault() => {
                self.count(error);
                if error.concerns_all_requests() {
                    self.set_unusable(error, now_ms);
                }
            }
            Ok(_) | Err(_) => self.set_usable(now_ms),
        }
    }

    /// Notes how a check of the bucket ended: whatever it found missing is needed.
    pub(super) fn note_check<T>(&self, result: &Result<T, S3Error>, now_ms: i64) {
        match result {
            Err(error) => {
                self.count(error);
                self.set_unusable(error, now_ms);
            }
            Ok(_) => self.set_usable(now_ms),
        }
    }

    fn count(&self, error: &S3Error) {
        let mut health = self.0.lock();
        health.errors = health.errors.saturating_add(1);
        health.last_error = Some(chain(error));
    }

    fn set_usable(&self, now_ms: i64) {
        if self.replace(true, now_ms) == Some(Some(false)) {
            log::info!("S3 can be used again");
        }
    }

    fn set_unusable(&self, error: &S3Error, now_ms: i64) {
        if self.replace(false, now_ms).is_some() {
            log::warn!(cause = chain(error); "S3 cannot be used; the files in it cannot be read and none can be stored there");
        }
    }

    /// Changes the state and returns the former one; `None`: it was this one.
    fn replace(&self, usable: bool, now_ms: i64) -> Option<Option<bool>> {
        let mut health = self.0.lock();
        if health.usable == Some(usable) {
            return None;
        }
        health.since_ms = now_ms;
        Some(health.usable.replace(usable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_and_the_state_changes_with_those_that_concern_everything() {
        let record = HealthRecord::default();
        assert_eq!(record.get(), S3Health::default());
        record.note(&Ok(()), 1);
        record.note::<()>(&Err(S3Error::NotFound), 2);
        assert_eq!(
            record.get(),
            S3Health { usable: Some(true), since_ms: 1, ..S3Health::default() }
        );
        record.note::<()>(&Err(S3Error::Quota), 3);
        let quota = record.get();
        assert_eq!((quota.usable, quota.since_ms, quota.errors), (Some(true), 1, 1));
        assert_eq!(quota.last_error, Some(S3Error::Quota.to_string()));
        record.note::<()>(&Err(S3Error::AccessKey), 4);
        record.note::<()>(&Err(S3Error::Busy { status: 503 }), 5);
        let failing = record.get();
        assert_eq!((failing.usable, failing.since_ms, failing.errors), (Some(false), 4, 3));
        record.note(&Ok(()), 6);
        let again = record.get();
        assert_eq!((again.usable, again.since_ms, again.errors), (Some(true), 6, 3));
        record.note_check::<()>(&Err(S3Error::Quota), 7);
        assert_eq!(record.get().usable, Some(false));
    }
}
