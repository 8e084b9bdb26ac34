//! The version that clients see.

/// Clients of the 0.5 line disable realtime and other features below `0.5.0-0`, and ignore build metadata, which
/// contains our own version (contract, section 7). Discovery and the realtime hello send the same text.
pub const SERVER_VERSION: &str = concat!("0.5.0+chatto-edge.", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::SERVER_VERSION;

    #[test]
    fn the_version_is_semantic_and_names_ours() {
        let (core, metadata) = SERVER_VERSION.split_once('+').unwrap();
        assert_eq!(core, "0.5.0");
        assert!(metadata.ends_with(env!("CARGO_PKG_VERSION")));
        for identifier in metadata.split('.') {
            assert!(!identifier.is_empty());
            assert!(identifier.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
        }
    }
}
