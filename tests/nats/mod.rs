//! Connecting: every way to authenticate, TLS, and what happens without a server.

mod account;
mod epoch_check;

use std::path::Path;
use std::time::Duration;

use chatto::nats::{Auth, ConnectError, Nats, Target};
use chatto::runtime::{Clock, Runtime};

use crate::support::nats::NatsServer;
use crate::support::port::free_port;

fn target(url: String, auth: Auth) -> Target {
    Target { urls: vec![url], auth, ca_cert: None, name: "test".to_owned() }
}

/// Connects and makes one request to JetStream.
fn try_connect(target: &Target, limit: Duration) -> Result<(), ConnectError> {
    Runtime::run(1, async |_| {
        let nats = Nats::connect(target, Clock::system()).await?;
        nats.wait_connected(limit).await?;
        nats.account_info().await.unwrap();
        Ok(())
    })
}

fn accepts(target: &Target) {
    try_connect(target, Duration::from_secs(10)).unwrap();
}

fn cannot_connect(target: &Target) {
    let error = try_connect(target, Duration::from_millis(700)).unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("authorization violation"), "{text}");
}

fn write(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_token() {
    let server = NatsServer::start_secured("authorization { token: \"t0ken\" }");
    accepts(&target(server.url(), Auth::Token("t0ken".to_owned())));
    cannot_connect(&target(server.url(), Auth::Token("another".to_owned())));
    cannot_connect(&target(server.url(), Auth::None));
}

#[test]
fn user_name_and_password() {
    let server =
        NatsServer::start_secured("authorization { user: \"chatto\", password: \"pa ss\" }");
    let auth = |password: &str| Auth::UserPassword {
        user: "chatto".to_owned(),
        password: password.to_owned(),
    };
    accepts(&target(server.url(), auth("pa ss")));
    cannot_connect(&target(server.url(), auth("pass")));
}

#[test]
fn an_nkey() {
    let key = nkeys::KeyPair::new_user();
    let users = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", key.public_key());
    let server = NatsServer::start_secured(&users);
    accepts(&target(server.url(), Auth::Nkey(key.seed().unwrap())));
    let another = nkeys::KeyPair::new_user();
    cannot_connect(&target(server.url(), Auth::Nkey(another.seed().unwrap())));
}

#[test]
fn a_credentials_file() {
    let dir = tempfile::tempdir().unwrap();
    let account = account::Account::new();
    let server = NatsServer::start_secured(&account.server_config());
    let good = write(dir.path(), "good.creds", &account.credentials());
    accepts(&target(server.url(), Auth::CredentialsFile(good)));
    let foreign = write(dir.path(), "foreign.creds", &account::Account::new().credentials());
    cannot_connect(&target(server.url(), Auth::CredentialsFile(foreign)));
    let missing = target(server.url(), Auth::CredentialsFile(dir.path().join("missing.creds")));
    let error = try_connect(&missing, Duration::from_secs(1)).unwrap_err();
    assert!(matches!(error, ConnectError::Options { .. }), "{error:?}");
    assert!(error.to_string().contains("missing.creds"), "{error}");
}

#[test]
fn tls_with_a_certificate_authority_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let cert = write(dir.path(), "cert.pem", &made.cert.pem());
    let key = write(dir.path(), "key.pem", &made.signing_key.serialize_pem());
    let config = format!("tls {{ cert_file: {cert:?}, key_file: {key:?} }}");
    let server = NatsServer::start_secured(&config);
    let trusting = Target { ca_cert: Some(cert), ..target(server.url(), Auth::None) };
    accepts(&trusting);
    let distrusting = target(server.url(), Auth::None);
    let error = try_connect(&distrusting, Duration::from_millis(700)).unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
}

#[test]
fn one_of_several_addresses_is_enough_and_none_is_named() {
    let server = NatsServer::start();
    let dead = format!("nats://127.0.0.1:{}", free_port());
    let urls = vec![dead.clone(), server.url()];
    accepts(&Target { urls, ..target(String::new(), Auth::None) });
    let nobody = target(dead.clone(), Auth::Token("secret-token".to_owned()));
    let error = try_connect(&nobody, Duration::from_millis(300)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(dead.trim_start_matches("nats://")), "{text}");
    assert!(!text.contains("secret-token") && !format!("{nobody:?}").contains("secret-token"));
}

#[test]
fn the_connection_comes_back_with_the_server() {
    let mut server = NatsServer::start();
    Runtime::run(1, async |_| {
        let nats = Nats::connect(&target(server.url(), Auth::None), Clock::system()).await.unwrap();
        nats.wait_connected(Duration::from_secs(10)).await.unwrap();
        let connects = nats.connects();
        server.restart();
        let again = Clock::system()
            .timeout(Duration::from_secs(10), nats.connected(connects))
            .await
            .unwrap();
        assert!(again > connects);
        nats.account_info().await.unwrap();
    });
}
