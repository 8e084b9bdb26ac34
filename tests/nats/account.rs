//! An operator, an account and a user as `nsc` would make them: JWTs signed with NKeys, the account
//! handed to the server by its memory resolver (NATS documentation, "Decentralized JWT").

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

pub(super) struct Account {
    operator: KeyPair,
    account: KeyPair,
    user: KeyPair,
}

impl Account {
    pub(super) fn new() -> Self {
        Self {
            operator: KeyPair::new_operator(),
            account: KeyPair::new_account(),
            user: KeyPair::new_user(),
        }
    }

    /// The server's part: whom to trust, and the account with JetStream.
    pub(super) fn server_config(&self) -> String {
        let operator = jwt(&self.operator, &self.operator, "operator", json!({}));
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1, "mem_storage": 1 << 26, "disk_storage": 1_i64 << 32,
            "streams": -1, "consumer": -1,
        });
        let account = jwt(&self.operator, &self.account, "account", json!({ "limits": limits }));
        // JetStream wants a system account beside it.
        let system = KeyPair::new_account();
        let own = jwt(&self.operator, &system, "account", json!({}));
        let (id, system) = (self.account.public_key(), system.public_key());
        format!(
            "operator: \"{operator}\"\nsystem_account: {system}\nresolver: MEMORY\n\
             resolver_preload {{ {id}: \"{account}\", {system}: \"{own}\" }}"
        )
    }

    /// The client's part: a `.creds` file.
    pub(super) fn credentials(&self) -> String {
        let user = jwt(
            &self.account,
            &self.user,
            "user",
            json!({
                "subs": -1, "data": -1, "payload": -1,
            }),
        );
        let seed = self.user.seed().unwrap();
        format!(
            "-----BEGIN NATS USER JWT-----\n{user}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

fn jwt(issuer: &KeyPair, subject: &KeyPair, kind: &str, mut claims: Value) -> String {
    claims["type"] = kind.into();
    claims["version"] = 2.into();
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let body = json!({
        "jti": "test", "iat": 1_700_000_000, "iss": issuer.public_key(), "name": kind,
        "sub": subject.public_key(), "nats": claims,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&body));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}
