//! The store against real nats-servers.

mod clock;
mod concurrency;
mod damage;
mod deadline;
mod drafts;
pub(crate) mod erase;
mod file_keys;
pub(crate) mod folds;
mod head;
mod held;
mod key_store;
mod lag;
mod leases;
mod limits;
mod markers;
mod memory;
mod newer;
mod opening;
mod purge;
mod replicas;
mod restored;
mod simulation;
mod stamps;
mod tokens;
mod transcript;
mod unanswered;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use chatto::crypto::Secret;
use chatto::domain::timeline::{Content, Effect, Post, Sealed};
use chatto::domain::{EventId, RoomId, UserId};
use chatto::nats::{Auth, Nats, Target};
use chatto::runtime::{Clock, Runtime};
use chatto::storage::{Config, Draft, OpenError, RoomHead, Storage};

pub(crate) const SECRET: &str = "a secret of the tests, long enough";

/// Runs a test's future on an executor of its own.
pub(crate) fn run<T, F: Future<Output = T>>(test: impl FnOnce(Runtime) -> F) -> T {
    Runtime::run(2, test)
}

pub(crate) async fn connect(url: &str) -> Nats {
    let target = Target {
        urls: vec![url.to_owned()],
        auth: Auth::None,
        ca_cert: None,
        name: "test".to_owned(),
    };
    let nats = Nats::connect(&target, Clock::system()).await.unwrap();
    nats.wait_connected(Duration::from_secs(10)).await.unwrap();
    nats
}

pub(crate) fn config(marker: Option<&Path>) -> Config {
    Config {
        replicas: 1,
        embedded: true,
        secret_key: Secret::new(SECRET.as_bytes().to_vec()),
        secret_key_previous: None,
        initialised_marker: marker.map(Path::to_owned),
        create: true,
    }
}

/// What a process does at its start; a server that has just come back may need a moment.
pub(crate) async fn open(
    url: &str,
    runtime: &Runtime,
    config: Config,
) -> Result<Storage, OpenError> {
    let clock = Clock::system();
    let nats = connect(url).await;
    for _ in 0..50 {
        match Storage::open(nats.clone(), config.clone(), runtime, clock.clone()).await {
            Err(error) if error.is_transient() => clock.sleep(Duration::from_millis(100)).await,
            opened => return opened,
        }
    }
    panic!("the store cannot be opened");
}

pub(crate) fn room(n: u8) -> RoomId {
    RoomId::from_random([n; 16])
}

pub(crate) fn user(n: u64) -> UserId {
    UserId::from_number(n)
}

/// A body whose sealed bytes are just the text, so that a test can search for them on disk.
pub(crate) fn content(text: &str) -> Content {
    let body = Sealed { ciphertext: text.as_bytes().to_vec().into(), ..Sealed::default() };
    Content { body: Some(body), ..Content::default() }
}

pub(crate) fn text(content: Option<&Content>) -> Option<String> {
    let body = content?.body.as_ref()?;
    Some(String::from_utf8(body.ciphertext.to_vec()).unwrap())
}

/// A root message as the next row.
pub(crate) fn post(head: &RoomHead, author: UserId, body: &str) -> Draft {
    let id = EventId::new(head.rows, 0, 7);
    let effect = Effect::Post(Post::new(id, content(body)));
    Draft { actor: Some(author), at_ms: Clock::system().unix_ms(), effect }
}

/// Polls a future until it has waited `n` times, and then no more: a process that is paused. `Some`: it
/// ended before.
pub(crate) async fn pause_at<F: Future + Unpin>(future: &mut F, n: u32) -> Option<F::Output> {
    let mut left = n;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        match Pin::new(&mut *future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => {
                left -= 1;
                Poll::Pending
            }
        }
    })
    .await
}

/// Drops a future at its n-th await, as a kill would; `None` then.
pub(crate) struct CutAt<F> {
    inner: Pin<Box<F>>,
    left: u32,
}

impl<F> CutAt<F> {
    pub(crate) fn new(inner: F, left: u32) -> Self {
        Self { inner: Box::pin(inner), left }
    }
}

impl<F: Future> Future for CutAt<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        match self.inner.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => {
                self.left -= 1;
                Poll::Pending
            }
        }
    }
}
