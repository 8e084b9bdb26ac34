//! Plan, archive, manifest, create, verify, restore, keys, retention, targets.
