//! Logs, metrics registry, task status.
