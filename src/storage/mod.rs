//! Where facts live: layout, subjects, stored encoding, journal, fold, pages, records, leases.

/// Stored records, version 1, as generated from `stored.v1.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
pub mod records {
    include!(concat!(env!("OUT_DIR"), "/chatto.stored.v1.rs"));
}
