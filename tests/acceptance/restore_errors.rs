//! What a restore that ends with an error leaves, and a dry run: nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chatto::app::{
    ArchiveFile, ConflictRule, RestoreFailure, RestoreReport, RestoreRequest, Verified, restore,
    verify_archive,
};
use chatto::backup::archive::ArchiveError;
use chatto::config::{Inputs, Purpose, Settings, load};
use chatto::operator::Exit;

use super::backup::{backed_up, json_of, refused, text};
use crate::support::server::Server;

fn settings(data: &Path) -> Settings {
    let inputs = Inputs {
        file: None,
        variables: vec![("CHATTO_NATS_EMBEDDED_DATA_DIR".into(), data.into())],
        working_dir: data.to_owned(),
        system_file: data.join("none"),
    };
    load(&inputs, Purpose::Local).unwrap().settings
}

fn restored(
    settings: &Settings,
    archive: &Path,
    (verified, conflict): (Option<&Verified>, ConflictRule),
) -> Result<RestoreReport, RestoreFailure> {
    let archive = &ArchiveFile::new(archive.to_owned(), None, 15).unwrap();
    let request = RestoreRequest { archive, verified, conflict, is_dry_run: false, files: true };
    restore(settings, &request, &mut |_, _, _| {})
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_archive_that_changes_after_it_was_checked_restores_nothing_and_leaves_no_part_of_a_store() {
    let of = backed_up();
    let second = of.server.dir().join("second.tar.gz");
    json_of(&of.server, &["backup", "-o", text(&second)]);
    // What the check has read; when the archive is read again, it has the header of another backup.
    let first = ArchiveFile::new(of.archive.clone(), None, 15).unwrap();
    let verified = verify_archive(&first, &mut |_| {}).unwrap();

    let target = tempfile::tempdir().unwrap();
    let data = target.path().join("data");
    let settings = settings(&data);
    let changed = restored(&settings, &second, (Some(&verified), ConflictRule::Error));
    let error = changed.unwrap_err();
    assert!(matches!(error, RestoreFailure::Archive(ArchiveError::Changed)), "{error:?}");
    assert_eq!(error.exit(), Exit::Damaged);
    let left = names(&data);
    assert!(!left.iter().any(|name| name.contains("restor") || name == "jetstream"), "{left:?}");

    // The same over a store: it is as it was.
    restored(&settings, &of.archive, (Some(&verified), ConflictRule::Error)).unwrap();
    let before = names(&data);
    let changed = restored(&settings, &second, (Some(&verified), ConflictRule::Overwrite));
    assert!(matches!(changed, Err(RestoreFailure::Archive(ArchiveError::Changed))));
    assert_eq!(names(&data), before);
    assert!(!before.iter().any(|name| name.contains("restor")), "{before:?}");
}

/// Every file below a folder with its size and the time of its last change.
fn tree(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let about = path.symlink_metadata().unwrap();
            found.insert(path.clone(), (about.len(), about.modified().unwrap()));
            if about.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

#[test]
fn a_dry_run_changes_nothing_and_works_beside_a_running_server() {
    let mut of = backed_up();
    let archive = of.archive.clone();
    let dry = ["restore", text(&archive), "--dry-run"];
    let over = [&dry[..], &["--conflict=overwrite"]].concat();
    let skip = [&dry[..], &["--conflict=skip"]].concat();

    let new = Server::prepare();
    assert_eq!(json_of(&new, &dry)["dry_run"], true);
    assert!(!new.data_dir().exists(), "a dry run makes no data directory");

    let (exit, while_running) = refused(&of.server, &dry);
    assert!(exit == 73 && while_running.contains("STATE, "), "{exit} {while_running}");
    let (exit, stderr) = refused(&of.server, &over);
    assert!(exit == 0 && stderr.contains("stop every server"), "{exit} {stderr}");
    let skipped = json_of(&of.server, &skip)["skipped"].clone();
    assert_eq!(of.server.client().log_in("ada").history(&of.room), of.history);

    assert!(of.server.stop().success());
    let before = tree(&of.server.data_dir());
    assert_eq!(refused(&of.server, &dry), (73, while_running.clone()));
    let (exit, stderr) = refused(&of.server, &over);
    assert!(exit == 0 && !stderr.contains("stop every server"), "{exit} {stderr}");
    assert_eq!(tree(&of.server.data_dir()), before);
    // A restore finds the same.
    assert_eq!(refused(&of.server, &["restore", text(&archive)]), (73, while_running));
    let really = json_of(&of.server, &["restore", text(&archive), "--conflict=skip"]);
    assert_eq!(really["skipped"], skipped);
}
