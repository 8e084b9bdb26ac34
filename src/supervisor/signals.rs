//! Signals to this process as a stream.

use std::io;
use std::time::Duration;

use futures_lite::{StreamExt, future};

use crate::runtime::Clock;

/// A signal that this process handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: shut down in order.
    Terminate,
    /// SIGINT (Ctrl-C): the same as SIGTERM.
    Interrupt,
    /// SIGHUP: reload what can be reloaded (certificates).
    Hangup,
}

/// From its creation on, the three signals no longer end this process; they are read here.
#[derive(Debug)]
pub struct Signals {
    inner: async_signal::Signals,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP.
    pub fn new() -> io::Result<Self> {
        use async_signal::Signal::{Hup, Int, Term};
        Ok(Self { inner: async_signal::Signals::new([Term, Int, Hup])? })
    }

    /// Waits for a signal, at most so long. `false`: there was none. Blocks.
    pub fn wait(&mut self, limit: Duration) -> bool {
        let clock = Clock::system();
        let signal = async {
            // Without signals nobody could end the wait.
            self.next().await.ok();
            true
        };
        let none = async {
            clock.sleep(limit).await;
            false
        };
        future::block_on(future::or(signal, none))
    }

    /// The next signal.
    ///
    /// # Errors
    /// The system's error; signals are then no longer read.
    ///
    /// # Cancel safety
    /// A signal is taken only when it is returned.
    pub async fn next(&mut self) -> io::Result<Signal> {
        loop {
            match self.inner.next().await {
                Some(Ok(async_signal::Signal::Term)) => return Ok(Signal::Terminate),
                Some(Ok(async_signal::Signal::Int)) => return Ok(Signal::Interrupt),
                Some(Ok(async_signal::Signal::Hup)) => return Ok(Signal::Hangup),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}
