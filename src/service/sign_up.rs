//! Making an account with a setup or join link.
//!
//! The account is made first, under an id derived from the token (for the first owner: from the server),
//! create-only; then the record is marked used by compare-and-set. A kill between the two loses nothing: the
//! repetition finds the account, and the right password completes the log-in.

use std::net::IpAddr;
use std::time::Duration;

use super::barrier::ReadBarrier;
use super::create_account::{
    AccountCreation, AccountDraft, AccountError, assignable_role, has_owner, is_owner,
};
use super::error::StoreError;
use super::links::{Links, account_id, content};
use super::passwords::Passwords;
use super::sessions::Sessions;
use super::throttle::{Throttle, Wait};
use super::{CallKind, ErrorKind, LinkContent, LoggedIn};
use crate::crypto::{hex, sha256};
use crate::domain::permission::OWNER;
use crate::domain::text::{DisplayName, Email, Login, Password};
use crate::domain::{Token, TokenKind, User, UserId};
use crate::runtime::Clock;
use crate::storage::{FoundToken, Storage, StorageError};

/// Longer texts are no token of ours.
const TOKEN_MAX_BYTES: usize = 128;
/// First owners tried after accounts of former ones; far more than will ever be deleted.
const FIRST_OWNERS_MAX: u32 = 10_000;

/// What the page of a link sends.
#[derive(Clone, Copy)]
pub struct RedeemRequest<'a> {
    /// The token behind `/setup#`.
    pub token: &'a str,
    /// The login, unless the link fixes one.
    pub login: &'a str,
    /// The display name, unless the link fixes one. Empty: the login is shown.
    pub display_name: &'a str,
    pub password: &'a str,
    /// The address, unless the link fixes one.
    pub email: Option<&'a str>,
    pub address: IpAddr,
}

/// A link was not redeemed.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// Unknown, used, expired or replaced. The text is fixed.
    #[error("This link is invalid, used or expired")]
    Invalid,
    /// A setup link after the server got an owner.
    #[error("This server has an owner already")]
    OwnerExists,
    /// Too much was refused already, for this link or this client address.
    #[error("too many attempts, try again later")]
    Throttled { retry_after: Duration },
    /// The account could not be made. The link stays usable.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The store failed. The link stays usable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RedeemError {
    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid => ErrorKind::InvalidArgument,
            Self::Throttled { .. } => ErrorKind::ResourceExhausted,
            Self::OwnerExists => ErrorKind::AlreadyExists,
            Self::Account(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }

    /// When to try again, after [`Self::Throttled`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Throttled { retry_after } = self { Some(*retry_after) } else { None }
    }

    /// Whether the request, not the server, caused it.
    pub(super) fn is_client_error(&self) -> bool {
        use ErrorKind::{DiskError, DiskFull, Internal, Unavailable};
        !matches!(self.kind(), DiskError | DiskFull | Internal | Unavailable)
    }
}

impl From<StorageError> for RedeemError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// A link's record that counts now.
struct UsableLink {
    hash: [u8; 32],
    found: FoundToken,
}

/// Makes accounts with setup and join links.
#[derive(Clone, Copy)]
pub struct SignUp<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) barrier: ReadBarrier<'a>,
    pub(super) links: Links<'a>,
    pub(super) creation: AccountCreation<'a>,
    pub(super) sessions: Sessions<'a>,
    pub(super) passwords: Passwords<'a>,
    pub(super) throttle: Throttle<'a>,
}

impl SignUp<'_> {
    /// What a link fixes, for its page.
    ///
    /// # Errors
    /// [`RedeemError::Invalid`], [`RedeemError::OwnerExists`], [`RedeemError::Store`].
    pub async fn link_content(self, token: &str) -> Result<LinkContent, RedeemError> {
        self.barrier.try_pass().await;
        let link = self.find_link(token).await?;
        let kind = link.found.token.kind;
        Ok(content(kind, link.found.token.join.unwrap_or_default()))
    }

    /// Makes the account of a setup or join link and logs it in.
    ///
    /// # Errors
    /// [`RedeemError`]. After [`RedeemError::Account`] and [`RedeemError::Store`] the link is usable.
    ///
    /// # Cancel safety
    /// Dropping it leaves the link usable, or the account made; then the same values complete it.
    pub async fn redeem(self, request: RedeemRequest<'_>) -> Result<LoggedIn, RedeemError> {
        self.barrier.pass(CallKind::Write).await?;
        let link = self.find_link(request.token).await?;
        let (hash, address) = (link.hash, request.address);
        if let Some(Wait { retry_after }) = self.throttle.link_wait(&hash, address).await? {
            return Err(RedeemError::Throttled { retry_after });
        }
        let redeemed = self.redeem_link(link, request).await;
        if redeemed.as_ref().is_err_and(RedeemError::is_client_error) {
            self.throttle.count_refused_link(&hash, address).await?;
        }
        redeemed
    }

    async fn redeem_link(
        &self,
        link: UsableLink,
        request: RedeemRequest<'_>,
    ) -> Result<LoggedIn, RedeemError> {
        let is_setup = link.found.token.kind == TokenKind::Setup;
        let id = if is_setup { self.first_owner_id(&link)? } else { account_id(&link.hash) };
        let present = self.storage.state().read(|tables| tables.users.get(&id).cloned());
        if present.as_ref().is_some_and(|user| user.deleted) {
            return Err(RedeemError::Invalid);
        }
        if let Some(present) = present {
            return self.complete(&link, &present, request).await;
        }
        let (draft, password) = self.draft(&link, id, request)?;
        // A hash costs much: not for what is refused anyway.
        self.creation.check(&draft)?;
        let password_hash = self.passwords.hash(&password).await.map_err(AccountError::from)?;
        // A hash may wait for a slot: the link may have been revoked, or its maker demoted, meanwhile.
        self.barrier.pass(CallKind::Write).await?;
        let link = self.find_link(request.token).await?;
        let user = match self.creation.create(AccountDraft { password_hash, ..draft }).await {
            Ok(user) => user,
            Err(AccountError::Exists) => return Err(RedeemError::Invalid),
            Err(error) => return Err(error.into()),
        };
        self.mark_used(&link).await?;
        Ok(self.sessions.start(&user).await?)
    }

    /// The record of a token that counts now.
    async fn find_link(&self, token: &str) -> Result<UsableLink, RedeemError> {
        if token.is_empty() || token.len() > TOKEN_MAX_BYTES {
            return Err(RedeemError::Invalid);
        }
        let hash = self.links.hash(token);
        let found = self.storage.tokens().get(&hash).await?;
        let found = found.ok_or(RedeemError::Invalid)?;
        let token = &found.token;
        if !self.links.is_usable(token) {
            return Err(RedeemError::Invalid);
        }
        // Before it makes an account: it could not be marked used, and may ask for an account that is not known here.
        if !found.is_known() {
            return Err(StorageError::Newer { what: "AUTH_TOKENS" }.into());
        }
        match token.kind {
            TokenKind::Join => {}
            TokenKind::Setup => {
                let name = hex(&hash);
                let newest =
                    self.storage.state().read(|tables| tables.server.setup_token_hash == name);
                if !newest {
                    return Err(RedeemError::Invalid);
                }
                let by_this = |user: &User| is_owner(user) && user.origin == name;
                let completes = self
                    .storage
                    .state()
                    .read(|tables| tables.users.values().any(|user| by_this(user)));
                if self.storage.state().read(has_owner) && !completes {
                    return Err(RedeemError::OwnerExists);
                }
            }
            TokenKind::Bearer | TokenKind::Cookie => return Err(RedeemError::Invalid),
        }
        Ok(UsableLink { hash, found })
    }

    /// The id of the first owner's account: the same whatever link makes it, so that two links at
    /// once make one owner. Accounts of former first owners are passed over.
    fn first_owner_id(&self, link: &UsableLink) -> Result<UserId, RedeemError> {
        let origin = hex(&link.hash);
        let server = self.storage.server_id().to_owned();
        for number in 0..FIRST_OWNERS_MAX {
            let digest = sha256(format!("first owner {number} of {server}").as_bytes());
            let id = account_id(&digest);
            let free = self.storage.state().read(|tables| {
                tables.users.get(&id).is_none_or(|user| !user.deleted && user.origin == origin)
            });
            if free {
                return Ok(id);
            }
        }
        Err(RedeemError::Invalid)
    }

    fn draft(
        &self,
        link: &UsableLink,
        id: UserId,
        request: RedeemRequest<'_>,
    ) -> Result<(AccountDraft, Password), AccountError> {
        let is_setup = link.found.token.kind == TokenKind::Setup;
        let join = link.found.token.join.clone().unwrap_or_default();
        let fixed_or = |fixed: &str, typed: &str| {
            if fixed.is_empty() { typed.to_owned() } else { fixed.to_owned() }
        };
        let login = fixed_or(&join.login, request.login);
        if login.is_empty() {
            return Err(AccountError::LoginMissing);
        }
        let name = fixed_or(&join.display_name, request.display_name);
        let name = Some(name).filter(|name| !name.trim().is_empty());
        let typed = request.email.map(str::trim).filter(|address| !address.is_empty());
        let (address, verified) = if join.email.is_empty() {
            // The setup link comes from the operator; a join link may have reached anybody.
            (typed.map(str::to_owned), is_setup)
        } else {
            (Some(join.email.clone()), join.email_verified)
        };
        let address = address.map(|address| Email::parse(&address)).transpose()?;
        let role = match (is_setup, join.role.as_str()) {
            (true, _) => Some(OWNER.to_owned()),
            (false, "") => None,
            (false, role) => Some(assignable_role(self.storage, role)?),
        };
        let draft = AccountDraft {
            id,
            login: Login::parse(&login)?,
            display_name: name.map(|name| DisplayName::parse(&name)).transpose()?,
            email: address.map(|address| (address, verified)),
            role,
            password_hash: String::new(),
            origin: hex(&link.hash),
            is_first_owner: is_setup,
        };
        Ok((draft, Password::parse(request.password)?))
    }

    /// The account was made by an earlier call that did not come to its end: the right login and
    /// password complete it. The link is used up either way.
    async fn complete(
        &self,
        link: &UsableLink,
        user: &User,
        request: RedeemRequest<'_>,
    ) -> Result<LoggedIn, RedeemError> {
        let fixed = link.found.token.join.as_ref().map_or("", |join| join.login.as_str());
        let login = if fixed.is_empty() { request.login } else { fixed };
        let stored = Some(user.password_hash.clone());
        let slot = self.passwords.slot().await.map_err(AccountError::from)?;
        // Before it is compared: of calls at once only one compares a password.
        if !self.mark_used(link).await? {
            return Err(RedeemError::Invalid);
        }
        let compared = self.passwords.compare(slot, stored, request.password).await;
        let same = compared.is_right && user.login.eq_ignore_ascii_case(login) && !user.deleted;
        if !same {
            return Err(RedeemError::Invalid);
        }
        Ok(self.sessions.start(user).await?)
    }

    /// Marks a link used; `false`: it changed meanwhile. That its account exists keeps it from making another.
    async fn mark_used(&self, link: &UsableLink) -> Result<bool, StorageError> {
        let left = self.time_left(&link.found.token);
        let used = Token { used: true, ..link.found.token.clone() };
        self.storage.tokens().replace(&link.hash, &link.found, &used, left).await
    }

    fn time_left(&self, token: &Token) -> Duration {
        let left = token.expires_ms.saturating_sub(self.clock.unix_ms());
        // JetStream counts life times in whole seconds, at least one.
        Duration::from_millis(u64::try_from(left).unwrap_or(0)).max(Duration::from_secs(1))
    }
}
