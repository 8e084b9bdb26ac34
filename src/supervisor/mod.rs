//! The nats-server child, data-dir lock, signals, systemd notify.
