//! What is stored of bearer tokens, session cookies and links.

use super::UserId;

/// A token, stored under its keyed hash. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    /// Whose it is; `None`: a link.
    pub user: Option<UserId>,
    /// It counts while the user's is the same; of a join link: its maker's.
    pub session_generation: u64,
    pub created_ms: i64,
    /// Last use, written at most once a day.
    pub used_ms: i64,
    pub expires_ms: i64,
    /// Until when its log-in counts as recent.
    pub fresh_until_ms: i64,
    /// The keyed hash of the other credential of the same log-in.
    pub pair: Option<[u8; 32]>,
    pub join: Option<JoinLink>,
    /// Single-use tokens: consumed by compare-and-set.
    pub used: bool,
    /// The OAuth client; empty: none.
    pub client_id: String,
    /// Common to a bearer token and its cookie.
    pub session: Option<[u8; 16]>,
}

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// The API, in a header.
    Bearer,
    /// The API, in a cookie.
    Cookie,
    /// The account of the first owner.
    Setup,
    /// A new account.
    Join,
}

/// What a join link fixes; empty: whoever uses it chooses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the fields of the account that it makes")]
pub struct JoinLink {
    pub login: String,
    pub display_name: String,
    pub email: String,
    pub role: String,
    pub email_verified: bool,
    /// The owner who made it; `None`: the operator.
    pub created_by: Option<UserId>,
}

impl Token {
    /// A token of which only the kind is known.
    #[must_use]
    pub fn new(kind: TokenKind) -> Self {
        Self {
            kind,
            user: None,
            session_generation: 0,
            created_ms: 0,
            used_ms: 0,
            expires_ms: 0,
            fresh_until_ms: 0,
            pair: None,
            join: None,
            used: false,
            client_id: String::new(),
            session: None,
        }
    }
}
