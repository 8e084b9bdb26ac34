//! What was deleted stays deleted: accounts, whichever archive is restored, and whatever keys are imported. No method
//! deletes an account yet, so it is done through the store's own records, as another process would.

use chatto::crypto::Secret;
use chatto::domain::{User, UserId};
use chatto::nats::{BatchRead, Nats};
use chatto::runtime::Clock;
use chatto::storage::{Config, RecordChange};
use chatto::supervisor::Connection;
use serde_json::json;

use super::backup::{json_of, text};
use super::external::running_on;
use super::{keys, seeded};
use crate::storage::{config, open, run};
use crate::support::client::Account;
use crate::support::nats::NatsServer;
use crate::support::server::{SECRET_KEY, Server};
use crate::support::wait::until;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// How far whoever deleted the account came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deletion {
    /// The account has its tombstone, its keys are not erased.
    Begun,
    Finished,
}

fn delete(nats: &NatsServer, account: &Account, deletion: Deletion) {
    run(|runtime| async move {
        let secret_key = Secret::from(SECRET_KEY.to_owned());
        let shared = Config { embedded: false, create: false, secret_key, ..config(None) };
        let storage = open(&nats.url(), &runtime, shared).await.unwrap();
        let id = UserId::try_from(account.id.as_str()).unwrap();
        let tombstone = |user: Option<&User>| {
            assert!(user.is_some());
            Ok::<_, std::convert::Infallible>(RecordChange::Put(User {
                deleted: true,
                ..User::new(id)
            }))
        };
        storage.state().change::<User, _>(&id, tombstone).await.unwrap();
        if deletion == Deletion::Finished {
            storage.user_keys().shred(&id).await.unwrap();
        }
        storage.close().await;
    });
}

/// How many keys of an account a running server's store has.
fn keys_of(server: &Server, account: &Account) -> usize {
    run(|_| async move {
        let target = Connection::read(&server.data_dir()).unwrap().unwrap().target();
        let nats = Nats::connect(&target, Clock::system()).await.unwrap();
        nats.wait_connected(PATIENCE).await.unwrap();
        let subjects = [format!("$KV.ENCRYPTION_KEYS.user.{}.*", account.id)];
        let read = nats.read("KV_ENCRYPTION_KEYS", BatchRead::Newest(&subjects)).await.unwrap();
        read.messages.iter().filter(|key| !key.is_tombstone()).count()
    })
}

/// The authors whose texts can be read in a room, of each message.
fn readable(owner: &Account, room: &str) -> Vec<(String, bool)> {
    let history = owner.history(room).into_iter();
    history.map(|message| (message.author, !message.body.is_empty())).collect()
}

#[test]
fn an_account_that_was_deleted_stays_so_after_a_restore_and_its_key_does_not_come_back() {
    let nats = NatsServer::start();
    let source = running_on(&nats);
    let owner = source.owner();
    let (room, _) = seeded(&owner);
    let [ben, eve] = ["ben", "eve"].map(|login| {
        let account = owner.invite(login);
        account.join(&room);
        account.post(&room, &format!("a text of {login}"), login).unwrap();
        account
    });
    let at = |name: &str| source.dir().join(name);
    let flag = ["--passphrase", keys::PASSPHRASE];
    let export = at("keys.backup");
    json_of(&source, &["keys", "export", "-o", text(&export), flag[0], flag[1]]);
    let (before, after, begun) = (at("before.tar.gz"), at("after.tar.gz"), at("begun.tar.gz"));
    json_of(&source, &["backup", "-o", text(&before)]);
    delete(&nats, &ben, Deletion::Finished);
    let without = |deleted: &[&Account]| {
        let messages = owner.history(&room).into_iter();
        let is_kept = |id: &str| !deleted.iter().any(|account| account.id == id);
        messages.map(|message| (message.author.clone(), is_kept(&message.author))).collect()
    };
    let without_ben: Vec<(String, bool)> = without(&[&ben]);
    assert_eq!(without_ben.iter().filter(|(_, is_readable)| !is_readable).count(), 1);
    until("the server knows that it is deleted", PATIENCE, || {
        (readable(&owner, &room) == without_ben).then_some(())
    });
    json_of(&source, &["backup", "-o", text(&after)]);
    delete(&nats, &eve, Deletion::Begun);
    json_of(&source, &["backup", "-o", text(&begun)]);
    let without_both: Vec<(String, bool)> = without(&[&ben, &eve]);

    // On a new machine, with keys from before the deletion.
    let mut target = Server::prepare();
    let import = ["keys", "import", text(&export), flag[0], flag[1]];
    let imports = |target: &Server, counts: [u64; 3]| {
        let done = json_of(target, &import);
        assert_eq!(json!([done["imported"], done["present"], done["refused"]]), json!(counts));
    };
    let done = json_of(&target, &["restore", text(&after)]);
    assert_eq!(done["missing_keys"], 2);
    imports(&target, [2, 0, 1]);
    target.run();
    assert_eq!(readable(&target.client().log_in("ada"), &room), without_ben);
    let log_in = json!({ "identifier": "ben", "password": "the password of ben" });
    assert!(target.client().post("/auth/login", &log_in).is_err());
    imports(&target, [0, 2, 1]);
    assert_eq!((keys_of(&target, &ben), keys_of(&target, &eve)), (0, 1));
    assert!(target.stop().success());

    // An archive from before the deletion over it.
    let done = json_of(&target, &["restore", text(&before), "--conflict=overwrite"]);
    assert_eq!((&done["deleted_users"], &done["missing_keys"]), (&json!(1), &json!(0)));
    imports(&target, [0, 2, 1]);
    target.run();
    assert_eq!(readable(&target.client().log_in("ada"), &room), without_ben);
    assert!(target.client().post("/auth/login", &log_in).is_err());
    assert_eq!((keys_of(&target, &ben), keys_of(&target, &eve)), (0, 1));
    assert!(target.stop().success());

    // One from the midst of a deletion: the restore ends it.
    json_of(&target, &["restore", text(&begun), "--conflict=overwrite"]);
    target.run();
    assert_eq!((keys_of(&target, &ben), keys_of(&target, &eve)), (0, 0));
    imports(&target, [0, 1, 2]);
    let ada = target.client().log_in("ada");
    assert_eq!(readable(&ada, &room), without_both);
    assert_eq!((keys_of(&target, &ben), keys_of(&target, &eve), keys_of(&target, &ada)), (0, 0, 1));
    // Where no store was before, the first start with these keys leaves none of theirs either.
    let mut fresh = Server::prepare();
    json_of(&fresh, &import);
    json_of(&fresh, &["restore", text(&begun)]);
    fresh.run();
    assert_eq!((keys_of(&fresh, &ben), keys_of(&fresh, &eve), keys_of(&fresh, &ada)), (0, 0, 1));
    assert_eq!(readable(&fresh.client().log_in("ada"), &room), without_both);
}
