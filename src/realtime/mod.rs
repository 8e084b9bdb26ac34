//! Who hears it now: feed, hub, per-connection queues, presence, typing.
