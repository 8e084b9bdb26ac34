//! Golden files: texts of the program that the repository holds, so that a review sees each change of them. The unit
//! tests and the integration tests share this file.

/// Rewrites all golden files and generated pages.
const UPDATE: &str =
    "CHATTO_UPDATE_GOLDEN=1 cargo nextest run --locked -E 'test(/golden|made_from|are_stored/)'";

/// Whether the tests write golden files, which `CHATTO_UPDATE_GOLDEN=1` asks for.
pub(crate) fn is_update() -> bool {
    std::env::var("CHATTO_UPDATE_GOLDEN").as_deref() == Ok("1")
}

/// Compares a file of the repository with what the program makes of it, or rewrites it.
pub(crate) fn compare(file: &str, expected: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if is_update() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{file} differs from the program; to rewrite it, run: {UPDATE}");
}
