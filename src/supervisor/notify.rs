//! Notifies systemd of our state (sd_notify(3)): ready, stopping, status text, more time, watchdog.
//!
//! Without `NOTIFY_SOCKET` everything here does nothing. A message that cannot be sent is dropped: systemd
//! then acts on its own time limits.
//!
//! Why not the crate `sd-notify` (0.5.0): it sends on a blocking socket, so a service manager that does not
//! read would block us; it does not know abstract sockets (`@name`); and it opens a socket for every message.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Notify {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// From the environment that systemd sets: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    #[must_use]
    pub fn from_env(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let socket = env("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let socket = socket.and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                log::warn!(error:err = error; "cannot use the service manager's socket");
                None
            }
        });
        let number = |name: &str| env(name)?.to_str()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|_| ours && socket.is_some());
        Self { socket, watchdog: watchdog.map(Duration::from_micros) }
    }

    /// For a process without a service manager.
    #[must_use]
    pub fn none() -> Self {
        Self { socket: None, watchdog: None }
    }

    /// The start is complete.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The stop has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line that says what we are doing.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// Asks for this much more time to start or stop, counted from now.
    pub fn extend_timeout(&self, by: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()));
    }

    /// Keep-alive ping. Send it every [`Self::watchdog_interval`].
    pub fn watchdog(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    /// How often to call [`Self::watchdog`]: a third of the time after which systemd kills us; `None`:
    /// never.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 3)
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            log::debug!(error:err = error; "cannot send a message to the service manager");
        }
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::ErrorKind::AddrNotAvailable.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read must not block us.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::ffi::OsString;

    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn env(vars: &[(&str, OsString)]) -> impl Fn(&str) -> Option<OsString> + use<> {
        let vars: HashMap<String, OsString> =
            vars.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        move |name| vars.get(name).cloned()
    }

    #[test]
    fn a_manager_receives_every_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let own = std::process::id().to_string();
        let notify = Notify::from_env(env(&[
            ("NOTIFY_SOCKET", path.into()),
            ("WATCHDOG_USEC", "60000000".into()),
            ("WATCHDOG_PID", own.into()),
        ]));
        notify.status("recovering\nthe store");
        notify.extend_timeout(Duration::from_secs(30));
        notify.ready();
        notify.watchdog();
        notify.stopping();
        for expected in [
            "STATUS=recovering the store",
            "EXTEND_TIMEOUT_USEC=30000000",
            "READY=1",
            "WATCHDOG=1",
            "STOPPING=1",
        ] {
            assert_eq!(receive(&manager), expected);
        }
        assert_eq!(notify.watchdog_interval(), Some(Duration::from_secs(20)));
        // A manager that has gone is no reason to fail.
        drop(manager);
        notify.ready();
    }

    #[test]
    fn abstract_sockets_work() {
        let name = format!("chatto-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let notify = Notify::from_env(env(&[("NOTIFY_SOCKET", format!("@{name}").into())]));
        notify.ready();
        assert_eq!(receive(&manager), "READY=1");
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        for notify in [
            Notify::none(),
            Notify::from_env(|_| None),
            Notify::from_env(env(&[("NOTIFY_SOCKET", "relative".into())])),
            Notify::from_env(env(&[("NOTIFY_SOCKET", "/does/not/exist".into())])),
        ] {
            notify.ready();
            assert_eq!(notify.watchdog_interval(), None);
        }
    }

    #[test]
    fn another_process_watchdog_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::from_env(env(&[
            ("NOTIFY_SOCKET", path.into()),
            ("WATCHDOG_USEC", "60000000".into()),
            ("WATCHDOG_PID", "1".into()),
        ]));
        assert_eq!(notify.watchdog_interval(), None);
    }
}
