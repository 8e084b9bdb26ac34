//! The report of `status`.

use std::sync::Arc;
use std::time::Instant;

use crate::domain::{BackupKind, BackupResult, BackupVerdict};
use crate::nats::Nats;
use crate::observe::{recent_errors, rfc3339};
use crate::operator::{
    BackupStatus, BackupsStatus, DiskStatus, HeldRoomStatus, KeysStatus, NatsStatus, S3Status,
    StatusReport, StatusSource, StreamStatus, VERSION,
};
use crate::realtime::Realtime;
use crate::runtime::Clock;
use crate::service::{BackupOverview, BucketView, Service};
use crate::storage::{RoomHold, Storage};
use crate::supervisor::HealthWatch;

use super::readiness::Readiness;
use super::register::Register;

/// Where the report's values come from.
pub(super) struct Sources {
    pub(super) readiness: Readiness,
    pub(super) nats: Nats,
    pub(super) storage: Storage,
    pub(super) service: Service,
    pub(super) realtime: Realtime,
    pub(super) embedded: Option<HealthWatch>,
    pub(super) register: Option<Register>,
    pub(super) replicas: usize,
    pub(super) listen: String,
    pub(super) started: Instant,
    pub(super) clock: Clock,
}

/// The most errors that the report contains.
const ERRORS_SHOWN: usize = 10;

/// Returns a function that makes reports.
pub(super) fn source(from: Sources) -> StatusSource {
    let from = Arc::new(from);
    Arc::new(move || {
        let from = Arc::clone(&from);
        Box::pin(async move { report(&from).await })
    })
}

async fn report(from: &Sources) -> StatusReport {
    let reason = from.readiness.get();
    let errors = recent_errors();
    let shown = errors.iter().skip(errors.len().saturating_sub(ERRORS_SHOWN));
    let users = from
        .storage
        .state()
        .read(|tables| tables.users.values().filter(|user| !user.deleted).count());
    let overview = overview(from).await;
    StatusReport {
        ready: reason.is_none(),
        reason: reason.map(|reason| reason.word().to_owned()),
        version: VERSION.to_owned(),
        pid: std::process::id(),
        uptime_seconds: from.clock.now().duration_since(from.started).as_secs(),
        server_id: from.storage.server_id().to_owned(),
        listen: from.listen.clone(),
        users,
        clients: from.realtime.clients(),
        nats: NatsStatus {
            mode: if from.embedded.is_some() { "embedded" } else { "external" },
            connected: from.nats.is_connected(),
            version: from.nats.server_version().to_string(),
            urls: from.nats.urls().to_owned(),
            restarts: from.embedded.as_ref().map(HealthWatch::restarts),
            replicas_configured: from.replicas,
        },
        disk: from.embedded.as_ref().map(|watch| {
            let disk = watch.disk();
            DiskStatus {
                free_bytes: disk.free_bytes,
                floor_bytes: disk.floor_bytes,
                store_bytes: disk.store_bytes,
                store_limit_bytes: disk.store_limit_bytes,
            }
        }),
        s3: from.service.bucket().map(bucket),
        streams: streams(from).await,
        unfolded_events: from.storage.unfolded().0,
        held_rooms: from.storage.held_rooms().into_iter().map(held_room).collect(),
        keys: overview.as_ref().map(keys),
        last_verified_backup: overview
            .as_ref()
            .and_then(|overview| Some(rfc3339(overview.backups.results.last_verified()?.at_ms))),
        backups: overview.as_ref().map(backups),
        differences: from.register.as_ref().map(Register::differing).unwrap_or_default(),
        recent_errors: shown
            .map(|error| format!("{} {}: {}", rfc3339(error.at_ms), error.target, error.text))
            .collect(),
    }
}

fn bucket(bucket: BucketView) -> S3Status {
    let BucketView { name, origin, health } = bucket;
    S3Status {
        bucket: name,
        origin,
        usable: health.usable,
        since: health.usable.map(|_| rfc3339(health.since_ms)),
        errors: health.errors,
        last_error: health.last_error,
    }
}

/// What is known of backups and of key exports.
async fn overview(from: &Sources) -> Option<BackupOverview> {
    if !from.nats.is_connected() {
        return None;
    }
    from.service.owner_notices().overview().await.ok()
}

fn keys(overview: &BackupOverview) -> KeysStatus {
    KeysStatus {
        people_without_export: overview.keys.people,
        people_without_key: overview.keys.missing,
        exported: overview.keys.exported_ms.map(rfc3339),
    }
}

fn backups(overview: &BackupOverview) -> BackupsStatus {
    let results = &overview.backups.results;
    let notices = overview.notices.iter();
    BackupsStatus {
        last: results.backups().next().map(backup),
        last_verified: results.last_verified().map(backup),
        last_failed: results.last_failed().map(backup),
        last_restore_test: results.last(BackupKind::RestoreTest).map(backup),
        late: overview.is_late(),
        notices: notices.map(|one| format!("{} {}", one.text, one.action)).collect(),
    }
}

fn backup(result: &BackupResult) -> BackupStatus {
    BackupStatus {
        kind: match result.kind {
            BackupKind::Directory => "directory",
            BackupKind::Stick => "stick",
            BackupKind::RestoreTest => "restore test",
        },
        verdict: match result.verdict {
            BackupVerdict::Verified => "verified",
            BackupVerdict::Complete => "complete",
            BackupVerdict::Unverified => "not verified",
            BackupVerdict::Failed => "failed",
        },
        time: rfc3339(result.at_ms),
        place: result.place.clone(),
        reason: Some(result.reason.clone()).filter(|reason| !reason.is_empty()),
        bytes: result.bytes,
        sequence: result.sequence,
    }
}

/// A held room with its reason and the reason's cause.
fn held_room(held: RoomHold) -> HeldRoomStatus {
    let cause = std::error::Error::source(&held.reason).map(|cause| format!(": {cause}"));
    let reason = format!("{}{}", held.reason, cause.unwrap_or_default());
    HeldRoomStatus { room: held.room, reason }
}

/// The streams, as far as the store replies; the others are left out.
async fn streams(from: &Sources) -> Vec<StreamStatus> {
    if !from.nats.is_connected() {
        return Vec::new();
    }
    let mut list = Vec::new();
    for name in crate::storage::stream_names() {
        match from.nats.stream(&name).await {
            Ok(Some(info)) => list.push(StreamStatus {
                name: name.trim_start_matches("KV_").trim_start_matches("OBJ_").to_owned(),
                messages: info.state.messages,
                bytes: info.state.bytes,
                replicas: info.config.num_replicas,
            }),
            Ok(None) => {}
            // The rest would not reply either, and the report has a deadline.
            Err(_) => break,
        }
    }
    list
}
