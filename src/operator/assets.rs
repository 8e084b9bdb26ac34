//! `assets.begin` and `assets.step`: checks and moves of all files, one step for each call.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::OperatorError;
use super::operations::{operator_error, parse_params};
use crate::observe::chain;
use crate::service::{
    Backend, ErrorKind, FileWork, FileWorkError, Finding, FindingKind, Service, WorkPosition,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    work: Work,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    work: Work,
    position: Position,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Work {
    Check,
    MoveToS3,
    MoveToNats,
}

/// A position as it goes over the socket.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Position {
    Files { after: u64, end: u64 },
    Objects { after: String },
}

/// Where to begin, and about how many files there are.
pub(super) async fn begin(service: &Service, params: Value) -> Result<Value, OperatorError> {
    let Begin { work } = parse_params(params)?;
    let begun = Box::pin(service.file_works().begin(work.into())).await;
    let (position, files) = begun.map_err(refused)?;
    Ok(json!({ "position": Position::from(position), "files": files }))
}

/// Works for a few seconds from a position on.
pub(super) async fn step(service: &Service, params: Value) -> Result<Value, OperatorError> {
    let Step { work, position } = parse_params(params)?;
    let step = Box::pin(service.file_works().step(work.into(), position.into())).await;
    let step = step.map_err(refused)?;
    Ok(json!({
        "done": step.done,
        "bytes": step.bytes,
        "findings": step.findings.iter().map(finding).collect::<Vec<Value>>(),
        "next": step.next.map(Position::from),
    }))
}

fn finding(finding: &Finding) -> Value {
    let is = match finding.kind {
        FindingKind::Missing => "missing",
        FindingKind::Damaged => "damaged",
        FindingKind::Orphaned => "orphaned",
        FindingKind::TooLarge => "too-large",
        FindingKind::Undecryptable => "undecryptable",
        FindingKind::Unreadable => "unreadable",
    };
    json!({ "file": finding.subject, "is": is })
}

/// With its causes: they say what an operator can do.
fn refused(error: FileWorkError) -> OperatorError {
    let mut refused = operator_error(error.kind(), &error, None);
    if error.kind() != ErrorKind::Internal {
        refused.message = chain(&error);
    }
    refused
}

impl From<Work> for FileWork {
    fn from(work: Work) -> Self {
        match work {
            Work::Check => Self::Check,
            Work::MoveToS3 => Self::Move(Backend::S3),
            Work::MoveToNats => Self::Move(Backend::Nats),
        }
    }
}

impl From<WorkPosition> for Position {
    fn from(position: WorkPosition) -> Self {
        match position {
            WorkPosition::Files { after, end } => Self::Files { after, end },
            WorkPosition::Objects { after } => Self::Objects { after },
        }
    }
}

impl From<Position> for WorkPosition {
    fn from(position: Position) -> Self {
        match position {
            Position::Files { after, end } => Self::Files { after, end },
            Position::Objects { after } => Self::Objects { after },
        }
    }
}
