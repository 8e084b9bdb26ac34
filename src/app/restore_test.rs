//! `backup verify --restore-test` and `backup extract`: what an archive restores, in a throwaway store.

use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use crate::backup::archive::ArchiveReader;
use crate::backup::contents::{Contents, Difference};
use crate::backup::create::{AssetScope, Backup, BackupPlan, CreateError};
use crate::backup::extract::{ExtractError, free_path};
use crate::backup::keys::KeyFile;
use crate::backup::target::TargetFile;
use crate::backup::transcript::{Transcript, TranscriptCount, TranscriptError, TranscriptFormat};
use crate::config::Settings;
use crate::domain::RoomId;
use crate::limits::BACKUP_TASKS_MAX;
use crate::operator::Exit;
use crate::runtime::{Clock, Runtime, Scope, blocking};
use crate::storage::{Export, Storage};

use super::archive_file::{ArchiveFile, Verified};
use super::error::{AppError, io_exit};
use super::keys::{KeyImportMode, KeysError, import_keys};
use super::parts;
use super::reach::Reach;
use super::restore::{
    ConflictRule, RestoreFailure, RestoreReport, RestoreRequest, Stage, archive_exit, restore,
};
use super::store::{Create, StoreOpening};
use super::throwaway::{Throwaway, ThrowawayError};

/// An archive was not restored, or something else came of it.
#[derive(Debug, thiserror::Error)]
pub enum RestoreTestError {
    #[error(transparent)]
    Restore(#[from] RestoreFailure),
    #[error(transparent)]
    Throwaway(#[from] ThrowawayError),
    #[error("the throwaway store in {} cannot be made; --work-dir chooses another place", place.display())]
    Place {
        place: PathBuf,
        #[source]
        source: Box<RestoreFailure>,
    },
    #[error("what was restored cannot be read")]
    Read(#[source] CreateError),
    #[error(transparent)]
    Transcript(#[from] TranscriptError),
    #[error("{} cannot be written", path.display())]
    WriteRoom {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Extract(#[from] ExtractError),
    #[error("the keys cannot be used")]
    Keys(#[from] KeysError),
    #[error("the restored store is not what the archive holds")]
    Differs(#[source] Difference),
    #[error("the restored store is not what the archive holds: the record {key} cannot be read")]
    UnreadableRecord { key: String },
    #[error(
        "the restored store is not what the archive holds: the room {room} cannot be written to pages"
    )]
    HeldRoom { room: String },
    #[error(
        "the archive has no room {name}; `chatto backup extract` with the archive alone lists its rooms"
    )]
    NoRoom { name: String },
}

impl RestoreTestError {
    /// Whether what was restored is not what an archive must give: a restore of it would not bring everything back.
    #[must_use]
    pub fn shows_damage(&self) -> bool {
        match self {
            Self::Differs(_) | Self::UnreadableRecord { .. } | Self::HeldRoom { .. } => true,
            Self::Transcript(TranscriptError::Store { source, .. }) => !source.is_transient(),
            _ => false,
        }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Restore(error) => error.exit(),
            Self::Place { source, .. } => source.exit(),
            Self::Throwaway(error) => io_exit(&error.source),
            Self::WriteRoom { source, .. } | Self::Transcript(TranscriptError::Write(source)) => {
                io_exit(source)
            }
            Self::Keys(error) => error.exit(),
            Self::Extract(error) => extract_exit(error),
            Self::Read(_) => Exit::Io,
            Self::Transcript(TranscriptError::Store { .. })
            | Self::Differs(_)
            | Self::UnreadableRecord { .. }
            | Self::HeldRoom { .. }
            | Self::NoRoom { .. } => Exit::Failed,
        }
    }
}

/// The exit code of a file that was not extracted.
fn extract_exit(error: &ExtractError) -> Exit {
    match error {
        ExtractError::Archive(error) => archive_exit(error),
        ExtractError::Write { source, .. } => io_exit(source),
        ExtractError::Exists { .. } => Exit::Exists,
        ExtractError::Unknown(_)
        | ExtractError::Listed(_)
        | ExtractError::NoBytes(_)
        | ExtractError::Encrypted(_)
        | ExtractError::Key { .. } => Exit::Failed,
        ExtractError::Bytes { .. } => Exit::Damaged,
    }
}

impl From<AppError> for RestoreTestError {
    fn from(error: AppError) -> Self {
        Self::Restore(error.into())
    }
}

/// A stage of a restore test, for its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestStage {
    Verifying,
    Restoring,
    Comparing,
}

/// What a restore test found to be as it should be.
#[derive(Debug)]
pub struct RestoreTested {
    pub report: RestoreReport,
    pub users: usize,
    pub rooms: usize,
    /// Rows and replies of all rooms.
    pub rows: u64,
}

/// Takes the stage, the bytes so far and about how many there will be.
type TestProgress<'a> = &'a mut dyn FnMut(TestStage, u64, u64);

/// Restores a verified archive into a throwaway store, compares everything in it with the archive's contents, opens it as a
/// server does, and reads every room. Blocks.
///
/// # Errors
/// [`RestoreTestError`]
pub fn restore_test(
    settings: &Settings,
    (archive, verified, expected): (&ArchiveFile, &Verified, &Contents),
    place: Option<&Path>,
    progress: TestProgress<'_>,
) -> Result<RestoreTested, RestoreTestError> {
    let throwaway = Throwaway::create(settings, place)?;
    let settings = throwaway.settings();
    let request = RestoreRequest {
        archive,
        verified: Some(verified),
        conflict: ConflictRule::Error,
        is_dry_run: false,
        files: true,
    };
    let report = restore(settings, &request, &mut |stage, done, total| {
        progress(stage.into(), done, total);
    });
    let report = report.map_err(|error| in_place(throwaway.place(), error))?;
    let total = report.restored.bytes.max(1);
    Runtime::run(Runtime::default_threads(), |runtime| async move {
        let clock = Clock::system();
        let reach = Reach { settings, command: "backup verify", runtime: &runtime, clock: &clock };
        let mut comparing = |done| progress(TestStage::Comparing, done, total);
        let restored = Box::pin(restored_contents(&reach, &mut comparing)).await?;
        if let Some(difference) = expected.difference(&restored) {
            return Err(RestoreTestError::Differs(difference));
        }
        let read = with_storage(&reach, async |storage| read_all(storage).await);
        let (users, rooms, rows) = Box::pin(read).await?;
        Ok(RestoreTested { report, users, rooms, rows })
    })
}

/// The same error, which names the place of the throwaway store if that is to blame.
fn in_place(place: &Path, error: RestoreFailure) -> RestoreTestError {
    match error {
        RestoreFailure::NoSpace { .. }
        | RestoreFailure::Restore(_)
        | RestoreFailure::App(AppError::Embedded(_) | AppError::Swap { .. }) => {
            RestoreTestError::Place { place: place.to_owned(), source: Box::new(error) }
        }
        error => error.into(),
    }
}

impl From<Stage> for TestStage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Verifying => Self::Verifying,
            // A throwaway store is this process's own: nobody is waited for.
            Stage::Waiting | Stage::Restoring => Self::Restoring,
        }
    }
}

/// What a backup of the restored store would contain.
async fn restored_contents(
    reach: &Reach<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Contents, RestoreTestError> {
    let reached = reach.connect().await?;
    let read = async {
        let export = Export::open(&reached.nats, reach.clock, 1).await.map_err(AppError::Store)?;
        let blobs = parts::blobs(reach.settings, &reached.nats, reach.clock)?;
        // Files that the archive only lists, or that it lacks, are not there either.
        let plan =
            BackupPlan { assets: AssetScope::Nats, accept_missing: true, ..BackupPlan::default() };
        let backup = Backup { export: &export, blobs: &blobs, plan: &plan };
        let scope = Scope::new(reach.runtime, "backup", BACKUP_TASKS_MAX);
        let (reader, writer) = io::pipe().map_err(|error| RestoreTestError::Read(error.into()))?;
        let writing = async {
            let never = std::future::pending();
            // Its end is the reader's end.
            Box::pin(backup.create(writer, (&scope, never), progress)).await.map(drop)
        };
        let reading = blocking(move || {
            let mut archive = ArchiveReader::open(reader)?;
            Contents::read(&mut archive, &mut |_| {})
        });
        let (written, contents) = futures_lite::future::zip(writing, reading).await;
        match (written, contents) {
            (Ok(()), contents) => Ok(contents.map_err(RestoreFailure::from)?),
            // A reader that ends closes the pipe: its error is the first one.
            (Err(CreateError::Write(_)), Err(error)) => Err(RestoreFailure::from(error).into()),
            (Err(error), _) => Err(RestoreTestError::Read(error)),
        }
    };
    let read = read.await;
    reached.close().await;
    read
}

/// Opens the restored store as a server does.
async fn with_storage<T>(
    reach: &Reach<'_>,
    work: impl AsyncFnOnce(&Storage) -> Result<T, RestoreTestError>,
) -> Result<T, RestoreTestError> {
    let Reach { settings, runtime, clock, .. } = *reach;
    let Some(embedded) = &settings.embedded else { return Err(AppError::no_data(settings).into()) };
    let locked = reach.lock().await?;
    let opening = StoreOpening { settings, create: Create::No, runtime, clock };
    let store = opening.embedded(embedded, locked).await?;
    let done = work(&store.storage).await;
    store.close().await;
    done
}

/// Reads every room to its end; returns users, rooms and rows.
async fn read_all(storage: &Storage) -> Result<(usize, usize, u64), RestoreTestError> {
    let (users, rooms, unreadable) = storage.state().read(|tables| {
        let rooms: Vec<RoomId> = tables.rooms.keys().copied().collect();
        (tables.users.len(), rooms, tables.unreadable().map(str::to_owned))
    });
    if let Some(key) = unreadable {
        return Err(RestoreTestError::UnreadableRecord { key });
    }
    let mut rows = 0_u64;
    for room in &rooms {
        let transcript = Transcript::new(storage, *room, TranscriptFormat::Json, io::sink());
        let (_, count) = transcript.write().await?;
        rows = rows.saturating_add(count.rows);
    }
    if let Some(held) = storage.held_rooms().into_iter().next() {
        return Err(RestoreTestError::HeldRoom { room: held.room });
    }
    Ok((users, rooms.len(), rows))
}

/// A room of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedRoom {
    pub id: RoomId,
    /// Empty: a direct message.
    pub name: String,
    /// Logins of the participants of a direct message.
    pub participants: Vec<String>,
}

/// A room whose transcript was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractedRoom {
    pub room: ArchivedRoom,
    pub path: PathBuf,
    pub count: TranscriptCount,
}

/// Which rooms, and how.
pub struct RoomsRequest<'a> {
    pub archive: &'a ArchiveFile,
    /// Of the throwaway store.
    pub place: Option<&'a Path>,
    pub keys: Option<&'a KeyFile>,
    /// Ids or names.
    pub rooms: &'a [String],
    pub format: TranscriptFormat,
    /// Where the transcripts go; nothing is overwritten.
    pub folder: &'a Path,
}

/// Restores the records of an archive into a throwaway store and writes transcripts of rooms. Returns all rooms of the archive,
/// and what was written. Blocks.
///
/// # Errors
/// [`RestoreTestError`]
pub fn extract_rooms(
    settings: &Settings,
    request: &RoomsRequest<'_>,
    progress: TestProgress<'_>,
) -> Result<(Vec<ArchivedRoom>, Vec<ExtractedRoom>), RestoreTestError> {
    let mut throwaway = Throwaway::create(settings, request.place)?;
    let restored = RestoreRequest {
        archive: request.archive,
        verified: None,
        conflict: ConflictRule::Error,
        is_dry_run: false,
        files: false,
    };
    let restored = restore(throwaway.settings(), &restored, &mut |stage, done, total| {
        progress(stage.into(), done, total);
    });
    restored.map_err(|error| in_place(throwaway.place(), error))?;
    if let Some(keys) = request.keys {
        import_keys(throwaway.settings_mut(), keys, KeyImportMode::SameSecret)?;
    }
    let settings = throwaway.settings();
    Runtime::run(Runtime::default_threads(), |runtime| async move {
        let clock = Clock::system();
        let reach = Reach { settings, command: "backup extract", runtime: &runtime, clock: &clock };
        let written = with_storage(&reach, async |storage| {
            let rooms = rooms(storage);
            let mut extracted = Vec::new();
            for room in choose(&rooms, request.rooms)? {
                extracted.push(write_room(storage, room, request).await?);
            }
            Ok((rooms, extracted))
        });
        Box::pin(written).await
    })
}

async fn write_room(
    storage: &Storage,
    room: &ArchivedRoom,
    request: &RoomsRequest<'_>,
) -> Result<ExtractedRoom, RestoreTestError> {
    let end = match request.format {
        TranscriptFormat::Text => ".txt",
        TranscriptFormat::Json => ".jsonl",
    };
    let name = if room.name.is_empty() { room.participants.join("-") } else { room.name.clone() };
    let path = free_path(request.folder, (&name, room.id.as_str()), end)?;
    let failed = |source| RestoreTestError::WriteRoom { path: path.clone(), source };
    let sink = BufWriter::new(TargetFile::create(&path, None).map_err(failed)?);
    let written = Transcript::new(storage, room.id, request.format, sink).write().await;
    let (sink, count) = written.map_err(|error| match error {
        TranscriptError::Write(source) => failed(source),
        error @ TranscriptError::Store { .. } => error.into(),
    })?;
    let target = sink.into_inner().map_err(|error| failed(error.into_error()))?;
    target.commit().map_err(failed)?;
    Ok(ExtractedRoom { room: room.clone(), path, count })
}

fn rooms(storage: &Storage) -> Vec<ArchivedRoom> {
    storage.state().read(|tables| {
        let login =
            |user| tables.users.get(user).map_or_else(String::new, |user| user.login.clone());
        let mut rooms: Vec<ArchivedRoom> = tables
            .rooms
            .iter()
            .map(|(id, room)| ArchivedRoom {
                id: *id,
                name: room.name.clone(),
                participants: room.participants.iter().map(login).collect(),
            })
            .collect();
        rooms.sort_by(|one, other| {
            (&one.name, one.id.as_str()).cmp(&(&other.name, other.id.as_str()))
        });
        rooms
    })
}

/// The rooms with these ids or names, each once. Two rooms may have one name.
fn choose<'a>(
    rooms: &'a [ArchivedRoom],
    wanted: &[String],
) -> Result<Vec<&'a ArchivedRoom>, RestoreTestError> {
    let mut chosen: Vec<&ArchivedRoom> = Vec::new();
    for name in wanted {
        let by_id = rooms.iter().find(|room| room.id.as_str() == name);
        let found: Vec<&ArchivedRoom> = match by_id {
            Some(room) => vec![room],
            None => rooms.iter().filter(|room| room.name == *name).collect(),
        };
        if found.is_empty() {
            return Err(RestoreTestError::NoRoom { name: name.clone() });
        }
        for room in found {
            if !chosen.contains(&room) {
                chosen.push(room);
            }
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_for_a_throwaway_store_is_named_with_the_option_for_another() {
        let path = PathBuf::from("/small/chatto-throwaway-1");
        let error = RestoreFailure::NoSpace { path, needed: 300 << 20, free: 7 << 20 };
        let error = in_place(Path::new("/small"), error);
        let text = crate::observe::chain(&error);
        for part in ["in /small cannot", "--work-dir", "300 MiB", "7 MiB are free"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(error.exit(), Exit::Io);
        let other = in_place(Path::new("/small"), RestoreFailure::NoBucket);
        assert_eq!(other.exit(), Exit::Config);
    }

    #[test]
    fn a_name_that_several_rooms_have_chooses_all_of_them_and_each_once() {
        let room = |id: &str, name: &str| ArchivedRoom {
            id: RoomId::try_from(id).unwrap(),
            name: name.to_owned(),
            participants: Vec::new(),
        };
        let ids = ["R00000000000001", "R00000000000002", "R00000000000003"];
        let rooms = [room(ids[0], "general"), room(ids[1], "general"), room(ids[2], "quiet")];
        let chosen = |wanted: &[&str]| -> Vec<String> {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            let chosen = choose(&rooms, &wanted).unwrap();
            chosen.iter().map(|room| room.id.as_str().to_owned()).collect()
        };
        assert_eq!(chosen(&["general"]), &ids[..2]);
        assert_eq!(chosen(&[ids[1], "general", "quiet", "quiet"]), [ids[1], ids[0], ids[2]]);
        let unknown = choose(&rooms, &["general".to_owned(), "loud".to_owned()]);
        assert!(matches!(unknown, Err(RestoreTestError::NoRoom { name }) if name == "loud"));
    }
}
