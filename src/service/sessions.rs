//! Sessions: log-in, the credentials it hands out, what counts as authenticated, log-out.
//!
//! A log-in makes a pair, a bearer token and a cookie, with one session id. Only keyed hashes are
//! stored. A record names its user's session generation in STATE, so ending all sessions of a user is
//! one write there; it is rewritten at most once a day to slide its end.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::barrier::ReadBarrier;
use super::error::StoreError;
use super::passwords::{PasswordHashError, Passwords};
use super::throttle::{Throttle, Wait};
use super::{AuthenticateError, CallKind, Config, ErrorKind, Keys, LoggedIn, millis};
use crate::crypto::{random, token_text};
use crate::domain::{SessionEnd, Token, TokenKind, User, UserId};
use crate::limits::{
    IDENTIFIER_MAX_BYTES, PASSWORD_MAX_CHARS, SESSION_FRESH, SESSION_TOUCH_INTERVAL,
};
use crate::runtime::Clock;
use crate::storage::{FoundToken, RecordChange, Storage, StorageError};

/// How a bearer token of a first-party session begins.
const BEARER_PREFIX: &str = "cht_AT";

/// Names one log-in; its bearer token and its cookie share it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) [u8; 16]);

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a request presents. The caller decides which one counts (contract 5.2).
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// The token of `Authorization: Bearer`.
    Bearer(&'a str),
    /// The value of the cookie `chatto_session`.
    Cookie(&'a str),
}

/// Proof that a user is behind a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub user: UserId,
    /// The log-in that the credential came from.
    pub id: SessionId,
    /// The credential's end was moved just now: a cookie should be set again with its new age.
    pub renewed: bool,
    fresh_until_ms: i64,
    /// The keyed hash of the credential that was presented.
    pub(super) hash: [u8; 32],
    pub(super) generation: u64,
    pub(super) expires_ms: i64,
}

/// Whether a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    Holds,
    /// Ended by its user; the contract's word why.
    Ended {
        /// `logout`, `password_changed` and so on.
        reason: &'static str,
    },
    /// Expired or revoked.
    Expired,
}

/// A log-in.
#[derive(Clone, Copy)]
pub struct LogIn<'a> {
    /// Login or verified address, in any case.
    pub identifier: &'a str,
    /// As typed.
    pub password: &'a str,
    pub address: IpAddr,
}

/// A log-in was refused.
#[derive(Debug, thiserror::Error)]
pub enum LogInError {
    /// Unknown user, wrong password or deleted account: one answer for all. The text is fixed.
    #[error("Invalid credentials")]
    Invalid,
    #[error("Password log-in is disabled")]
    Disabled,
    #[error("Too many attempts, try again later")]
    Throttled { retry_after: Duration },
    #[error(transparent)]
    Password(#[from] PasswordHashError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LogInError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid => ErrorKind::Unauthenticated,
            Self::Disabled => ErrorKind::PermissionDenied,
            Self::Throttled { .. } => ErrorKind::ResourceExhausted,
            Self::Password(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }

    /// When to try again, after [`Self::Throttled`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Throttled { retry_after } = self { Some(*retry_after) } else { None }
    }
}

impl From<StorageError> for LogInError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

impl Session {
    /// Whether the log-in is recent enough for what needs a fresh one.
    #[must_use]
    pub fn is_fresh(&self, now_ms: i64) -> bool {
        now_ms < self.fresh_until_ms
    }

    /// Whether it came from the credential with this keyed hash.
    #[must_use]
    pub fn came_from(&self, hash: &[u8; 32]) -> bool {
        self.hash == *hash
    }
}

/// Sessions: log-in, authentication, log-out.
#[derive(Clone, Copy)]
pub struct Sessions<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) barrier: ReadBarrier<'a>,
    pub(super) config: &'a Config,
    pub(super) keys: &'a Keys,
    pub(super) passwords: Passwords<'a>,
    pub(super) throttle: Throttle<'a>,
}

impl Sessions<'_> {
    /// Finds the user of a credential, for a call of this kind: its read barrier comes first
    /// ([`ReadBarrier::pass`]).
    ///
    /// # Errors
    /// [`AuthenticateError::Required`] when the credential does not count; [`AuthenticateError::Store`], for
    /// changes also without the barrier.
    ///
    /// # Cancel safety
    /// Dropping it may leave the session's end unmoved; nothing else.
    pub async fn authenticate(
        self,
        credential: Credential<'_>,
        kind: CallKind,
    ) -> Result<Session, AuthenticateError> {
        self.barrier.pass(kind).await?;
        let (hash, kind) = self.look_up_key(credential).ok_or(AuthenticateError::Required)?;
        let found = self.storage.tokens().get_cached(&hash).await?;
        let found = found.ok_or(AuthenticateError::Required)?;
        let token = &found.token;
        let user = self.session_user(token, kind).ok_or(AuthenticateError::Required)?;
        let id = token.session.map(SessionId).ok_or(AuthenticateError::Required)?;
        let session = Session {
            user,
            id,
            renewed: false,
            fresh_until_ms: token.fresh_until_ms,
            hash,
            generation: token.session_generation,
            expires_ms: token.expires_ms,
        };
        // Whatever becomes of its end: with a full disk, or without quorum, what is stored can still be read.
        let renewed = self.slide(&hash, &found).await.unwrap_or_else(|error| {
            log::debug!(user:% = user, error:err = error; "the end of a session cannot be moved now");
            false
        });
        Ok(Session { renewed, ..session })
    }

    /// Checks a password and starts a session.
    ///
    /// # Cancel safety
    /// Dropping it may leave an attempt counted, or a session nobody knows, which expires.
    pub async fn log_in(self, attempt: LogIn<'_>) -> Result<LoggedIn, LogInError> {
        if !self.config.direct_login {
            return Err(LogInError::Disabled);
        }
        self.barrier.pass(CallKind::Write).await?;
        let identifier = attempt.identifier.trim();
        if identifier.len() > IDENTIFIER_MAX_BYTES
            || attempt.password.chars().count() > PASSWORD_MAX_CHARS
        {
            return Err(LogInError::Invalid);
        }
        let looked = self.throttle.check_log_in(identifier, attempt.address).await?;
        let counted =
            looked.map_err(|Wait { retry_after }| LogInError::Throttled { retry_after })?;
        let slot = self.passwords.slot().await?;
        if let Some(Wait { retry_after }) = self.throttle.count_attempt(&counted).await? {
            return Err(LogInError::Throttled { retry_after });
        }
        let user = self.find_for_log_in(identifier);
        let stored = user.as_ref().map(|user| user.password_hash.clone());
        let compared = self.passwords.compare(slot, stored, attempt.password).await;
        let Some(user) = user.filter(|_| compared.is_right) else {
            return Err(LogInError::Invalid);
        };
        self.throttle.uncount_attempt(&counted).await?;
        if let Some(upgraded) = compared.upgraded {
            // The password is right whatever becomes of its hash.
            if let Err(error) = self.store_upgraded_hash(&user, upgraded).await {
                log::warn!(user:% = user.id, error:err = error; "could not upgrade a password hash; the next log-in tries again");
            }
        }
        log::info!(user:% = user.id; "logged in");
        Ok(self.start(&user).await?)
    }

    /// Ends the presented credentials and the pair each was issued with. Credentials that do not
    /// count are passed over.
    ///
    /// # Errors
    /// [`AuthenticateError::Store`].
    ///
    /// # Cancel safety
    /// Dropping it may leave one of a pair; repeating it ends that too.
    pub async fn log_out(self, presented: &[Credential<'_>]) -> Result<(), AuthenticateError> {
        for credential in presented {
            let Some((hash, kind)) = self.look_up_key(*credential) else { continue };
            let Some(FoundToken { token, .. }) = self.storage.tokens().get(&hash).await? else {
                continue;
            };
            if token.kind != kind {
                continue;
            }
            if let Some(pair) = token.pair {
                self.storage.tokens().delete(&pair).await?;
            }
            self.storage.tokens().delete(&hash).await?;
        }
        Ok(())
    }

    /// Looks again whether a session counts, at the store's leader; while it cannot be asked, what it said lately counts.
    pub async fn state(self, session: &Session) -> Result<SessionState, StoreError> {
        let user = self.storage.state().read(|tables| tables.users.get(&session.user).cloned());
        let Some(user) = user.filter(|user| !user.deleted) else {
            return Ok(SessionState::Ended { reason: "account_deleted" });
        };
        let counts = |token: &Token| token.session_generation == user.session_generation;
        let found = self.storage.tokens().get_or_known(&session.hash).await?;
        Ok(match found.map(|found| found.token) {
            Some(token) if counts(&token) && self.clock.unix_ms() < token.expires_ms => {
                SessionState::Holds
            }
            Some(token) if counts(&token) => SessionState::Expired,
            None if session.generation == user.session_generation => {
                if self.clock.unix_ms() < session.expires_ms {
                    SessionState::Ended { reason: "logout" }
                } else {
                    SessionState::Expired
                }
            }
            Some(_) | None => match user.session_end {
                Some(SessionEnd::PasswordChanged) => {
                    SessionState::Ended { reason: "password_changed" }
                }
                Some(SessionEnd::PasswordReset) => SessionState::Ended { reason: "password_reset" },
                Some(SessionEnd::IdentityDisconnected) => {
                    SessionState::Ended { reason: "external_identity_disconnected" }
                }
                None => SessionState::Expired,
            },
        })
    }

    /// A new CSRF token for a session.
    #[must_use]
    pub fn csrf_token(&self, session: &Session) -> String {
        self.keys.cookies.csrf(session.user.as_str(), &session.id.0)
    }

    /// Whether a CSRF token belongs to this session.
    #[must_use]
    pub fn csrf_is_valid(&self, session: &Session, token: &str) -> bool {
        self.keys.cookies.csrf_is_valid(token, session.user.as_str(), &session.id.0)
    }

    /// `Max-Age` of the session cookie.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.config.session_ttl
    }

    /// Stores a pair of credentials for a user and hands them out.
    pub(super) async fn start(&self, user: &User) -> Result<LoggedIn, StorageError> {
        let id = SessionId(random());
        let token = format!("{BEARER_PREFIX}{}", token_text());
        let handle = random::<32>();
        let (bearer, cookie) = (self.bearer_hash(&token), self.cookie_hash(&handle));
        let now = self.clock.unix_ms();
        let ttl = self.config.session_ttl;
        let record = |kind: TokenKind, pair: [u8; 32]| Token {
            user: Some(user.id),
            session_generation: user.session_generation,
            created_ms: now,
            used_ms: now,
            expires_ms: now.saturating_add(millis(ttl)),
            fresh_until_ms: now.saturating_add(millis(SESSION_FRESH)),
            pair: Some(pair),
            session: Some(id.0),
            ..Token::new(kind)
        };
        self.storage.tokens().create(&cookie, &record(TokenKind::Cookie, bearer), ttl).await?;
        self.storage.tokens().create(&bearer, &record(TokenKind::Bearer, cookie), ttl).await?;
        Ok(LoggedIn {
            user: user.id,
            login: user.login.clone(),
            token,
            cookie: self.keys.cookies.session(&handle),
            csrf: self.keys.cookies.csrf(user.id.as_str(), &id.0),
        })
    }

    fn bearer_hash(&self, token: &str) -> [u8; 32] {
        self.keys.tokens.mac(format!("bearer:{token}").as_bytes())
    }

    fn cookie_hash(&self, handle: &[u8]) -> [u8; 32] {
        self.keys.tokens.mac(&[b"cookie:", handle].concat())
    }

    /// Where the record of a credential would lie; `None` for what cannot be one of ours.
    fn look_up_key(&self, credential: Credential<'_>) -> Option<([u8; 32], TokenKind)> {
        match credential {
            Credential::Bearer(token) => {
                let ours = token.starts_with(BEARER_PREFIX) && token.len() <= 128;
                ours.then(|| (self.bearer_hash(token), TokenKind::Bearer))
            }
            Credential::Cookie(value) => {
                let handle = self.keys.cookies.handle(value)?;
                Some((self.cookie_hash(&handle), TokenKind::Cookie))
            }
        }
    }

    /// The user of a session record that counts now.
    fn session_user(&self, token: &Token, kind: TokenKind) -> Option<UserId> {
        let counts = token.kind == kind && self.clock.unix_ms() < token.expires_ms && !token.used;
        let id = token.user.filter(|_| counts)?;
        self.storage.state().read(|tables| {
            let user = tables.users.get(&id)?;
            let present = !user.deleted && user.session_generation == token.session_generation;
            present.then_some(id)
        })
    }

    /// Moves the end of a session that was not used for a day. That of a session which a newer program wrote
    /// stays where it is until that program moves it.
    async fn slide(&self, hash: &[u8; 32], found: &FoundToken) -> Result<bool, StorageError> {
        let now = self.clock.unix_ms();
        let is_recent = now.saturating_sub(found.token.used_ms) < millis(SESSION_TOUCH_INTERVAL);
        if is_recent || !found.is_known() {
            return Ok(false);
        }
        let ttl = self.config.session_ttl;
        let expires_ms = now.saturating_add(millis(ttl));
        let token = Token { used_ms: now, expires_ms, ..found.token.clone() };
        // Lost the race: another request of this session moved it.
        self.storage.tokens().replace(hash, found, &token, ttl).await
    }

    fn find_for_log_in(&self, identifier: &str) -> Option<User> {
        self.storage.state().read(|tables| {
            tables
                .user_by_login(identifier)
                .or_else(|| tables.user_by_email(identifier))
                .filter(|user| !user.deleted && !user.is_bot)
                .map(|user| User::clone(user))
        })
    }

    async fn store_upgraded_hash(&self, user: &User, hash: String) -> Result<(), StorageError> {
        self.storage
            .state()
            .change::<User, _>(&user.id, |present| {
                Ok(match present {
                    Some(present) if present.password_hash == user.password_hash => {
                        RecordChange::Put(User { password_hash: hash.clone(), ..present.clone() })
                    }
                    _ => RecordChange::Keep,
                })
            })
            .await
            .map_err(StorageError::from)?;
        Ok(())
    }
}
