//! What kind of refusal an error is, so that the edge maps every error in one place.

/// The kinds of refusal; each is one code of the contract (section 3.1), the disk's two are `unavailable`
/// with a text of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No credential, or one that does not count.
    Unauthenticated,
    /// The right is missing, or the room is hidden or not joined.
    PermissionDenied,
    /// It does not exist.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The request itself is wrong.
    InvalidArgument,
    /// The state forbids it.
    FailedPrecondition,
    /// Too much or too fast.
    ResourceExhausted,
    /// The store does not answer, or too much is waiting: try again.
    Unavailable,
    /// The server's disk has no room: writes are refused.
    DiskFull,
    /// The server's disk is read-only or reports errors: writes are refused.
    DiskError,
    /// Not served yet.
    Unimplemented,
    /// A fault of ours; its text stays inside.
    Internal,
}
