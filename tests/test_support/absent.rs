//! Builds without the feature have none of it.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::post;
use crate::support::server::{BINARY, Server, TEST_BUILD};

/// Far more than a program with debug information has.
const PROGRAM_MAX_BYTES: u64 = 1 << 30;
/// Every route of the contract's section 11.
const ROUTES: [&str; 12] = [
    "/auth/test/create-user",
    "/auth/test/create-user-session",
    "/auth/test/verify-email",
    "/auth/test/create-registration-code",
    "/auth/test/create-registration-token",
    "/auth/test/last-email",
    "/auth/test/emails",
    "/auth/test/oauth-callback",
    "/auth/test/external-identity-flow",
    "/auth/test/oauth-authorize",
    "/webhooks/test/call-join",
    "/webhooks/test/call-leave",
];

#[test]
fn the_ordinary_program_has_no_such_route() {
    let server = Server::start();
    for route in ROUTES {
        let answer = post(&server, route, &json!({"login": "x", "password": "correct horse"}));
        assert_eq!(answer.status, 404, "{route}");
    }
}

#[test]
fn the_ordinary_program_does_not_know_their_names() {
    let contains = |program: &str, word: &str| {
        let bytes = chatto::runtime::limited_read(Path::new(program), PROGRAM_MAX_BYTES).unwrap();
        bytes.windows(word.len()).any(|found| found == word.as_bytes())
    };
    for word in ["/auth/test", "/webhooks/test", "test-support/", "this is a test build"] {
        assert!(!contains(BINARY, word), "{word}");
    }
    assert!(contains(TEST_BUILD, "/auth/test/create-user"), "the search finds what is there");
}

#[test]
fn the_ordinary_program_refuses_bootstrap_data() {
    let mut server = Server::prepare();
    let config = "[bootstrap.server]\nname = \"x\"\n";
    std::fs::write(server.dir().join("chatto.toml"), config).unwrap();
    let (exit, said) = server.run_refused();
    assert_eq!(exit, 78, "{said}");
    assert!(said.contains("exists only in builds with the feature test-support"), "{said}");
}

/// Compiles the guard alone, as cargo would within the crate.
#[test]
fn an_optimised_build_with_the_feature_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let guard = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/test_build.rs");
    let compile = |more: &[&str]| {
        let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut command = Command::new(compiler);
        command.args(["--edition=2024", "--crate-type=lib", "--emit=metadata"]);
        command.arg("--out-dir").arg(dir.path()).arg(&guard).args(more);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let feature = "--cfg=feature=\"test-support\"";
    let (refused, said) = compile(&["-Cdebug-assertions=no", feature]);
    assert!(!refused && said.contains("never goes into a release build"), "{said}");
    for allowed in [
        &["-Cdebug-assertions=no"][..],
        &["-Cdebug-assertions=yes", feature],
        &["-Cdebug-assertions=no", feature, "--cfg=chatto_test_build"],
    ] {
        let (built, said) = compile(allowed);
        assert!(built, "{allowed:?}: {said}");
    }
}
