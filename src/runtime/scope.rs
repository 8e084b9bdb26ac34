//! Scopes: every task has an owner, a name and a place in the stop order.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use smol::Executor;

use super::Runtime;

/// A task whose result its owner waits for; dropping it cancels the task.
pub type Task<T> = smol::Task<T>;

/// A bounded set of named tasks with one owner.
///
/// Finished tasks make room for new ones. Dropping the scope cancels the running tasks.
pub struct Scope {
    name: &'static str,
    max: usize,
    executor: Arc<Executor<'static>>,
    tasks: Mutex<Vec<(&'static str, Task<()>)>>,
}

/// The scope holds as many tasks as it is allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot start another task: {max} are already running")]
pub struct ScopeFull {
    /// How many tasks the scope may hold.
    pub max: usize,
}

impl Scope {
    /// An empty scope for at most `max` tasks at a time.
    #[must_use]
    pub fn new(runtime: &Runtime, name: &'static str, max: usize) -> Self {
        Self { name, max, executor: Arc::clone(&runtime.executor), tasks: Mutex::default() }
    }

    /// Starts a task that ends by itself or watches a [`super::Stop`].
    ///
    /// # Errors
    /// [`ScopeFull`] when `max` tasks run.
    pub fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ScopeFull> {
        let mut tasks = self.tasks.lock();
        if tasks.len() >= self.max {
            tasks.retain(|(_, task)| !task.is_finished());
        }
        if tasks.len() >= self.max {
            return Err(ScopeFull { max: self.max });
        }
        tasks.push((name, self.executor.spawn(work)));
        Ok(())
    }

    /// Starts work that must not be interrupted when its caller goes away (append and
    /// acknowledgement, rename, completion). The scope owns it; the result reaches the caller
    /// through the returned future, which may be dropped.
    ///
    /// # Errors
    /// [`ScopeFull`] when `max` tasks run.
    pub fn finish<T, F>(
        &self,
        name: &'static str,
        work: F,
    ) -> Result<impl Future<Output = Option<T>> + use<T, F>, ScopeFull>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (tx, rx) = smol::channel::bounded(1);
        self.spawn(name, async move {
            let result = work.await;
            // The caller may have gone away; the work is done anyway.
            tx.try_send(result).ok();
        })?;
        Ok(async move { rx.recv().await.ok() })
    }

    /// The number of running tasks.
    #[must_use]
    pub fn running(&self) -> usize {
        let mut tasks = self.tasks.lock();
        tasks.retain(|(_, task)| !task.is_finished());
        tasks.len()
    }

    /// Waits until every task has ended, including those that start meanwhile.
    pub async fn join(&self) {
        loop {
            let next = self.tasks.lock().pop();
            let Some((name, task)) = next else { return };
            log::debug!(scope = self.name, task = name; "waiting for a task");
            task.await;
        }
    }
}
