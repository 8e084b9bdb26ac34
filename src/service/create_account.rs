//! Creating an account: check the rules, claim what must be unique, then write the record.
//!
//! The record is create-only under an id that the caller chose: with an id derived from a link's
//! token, one link makes one account, whatever is repeated or killed in between. Claims name the id as
//! their holder, so a repetition finds its own. A claim whose account was never made is swept.

use std::convert::Infallible;

use super::barrier::ReadBarrier;
use super::error::{StoreError, flatten};
use super::passwords::PasswordHashError;
use super::{CallKind, Config, ErrorKind};
use crate::domain::permission::{DEFAULT_BLOCKED_LOGINS, EVERYONE, OWNER};
use crate::domain::text::{
    DisplayName, DisplayNameError, Email, EmailError, Login, LoginError, PasswordError,
    is_reserved_login,
};
use crate::domain::{EmailAddress, User, UserId};
use crate::runtime::Clock;
use crate::storage::{Claim, Claimed, RecordChange, Storage, StorageError, Tables};

/// An account was not made or not changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error("a username is required")]
    LoginMissing,
    #[error(transparent)]
    DisplayName(#[from] DisplayNameError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Email(#[from] EmailError),
    /// The login is in use or kept back. The text is fixed.
    #[error("Username is already taken")]
    LoginTaken,
    /// Another account has verified this address.
    #[error("this e-mail address is already in use")]
    EmailTaken,
    #[error("no assignable role has this name")]
    UnknownRole,
    /// `limits.max_users` is reached.
    #[error("this server has reached its maximum number of users")]
    UsersFull,
    /// The account of this id exists: the link was used meanwhile.
    #[error("this account already exists")]
    Exists,
    #[error(transparent)]
    Hashing(#[from] PasswordHashError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AccountError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Login(_)
            | Self::LoginMissing
            | Self::DisplayName(_)
            | Self::Password(_)
            | Self::Email(_)
            | Self::UnknownRole => ErrorKind::InvalidArgument,
            Self::LoginTaken | Self::EmailTaken | Self::Exists => ErrorKind::AlreadyExists,
            Self::UsersFull => ErrorKind::FailedPrecondition,
            Self::Hashing(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<StorageError> for AccountError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// An account to be made; every part is checked already.
pub(super) struct AccountDraft {
    pub(super) id: UserId,
    pub(super) login: Login,
    pub(super) display_name: Option<DisplayName>,
    /// The address and whether it counts as verified.
    pub(super) email: Option<(Email, bool)>,
    pub(super) role: Option<String>,
    pub(super) password_hash: String,
    /// Hash of the link that made it; empty: the operator.
    pub(super) origin: String,
    /// The first owner is not subject to `limits.max_users`.
    pub(super) is_first_owner: bool,
}

/// Makes accounts.
#[derive(Clone, Copy)]
pub(super) struct AccountCreation<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) barrier: ReadBarrier<'a>,
    pub(super) config: &'a Config,
}

impl AccountCreation<'_> {
    /// Makes an account.
    ///
    /// # Cancel safety
    /// Dropping it leaves either the whole account or claims that a repetition finds as its own and
    /// the sweep releases.
    pub(super) async fn create(&self, draft: AccountDraft) -> Result<User, AccountError> {
        self.check(&draft)?;
        let holder = draft.id;
        let login = draft.login.key();
        if self.storage.state().claim(Claim::Login(&login), holder).await? != Claimed::Yes {
            return Err(AccountError::LoginTaken);
        }
        let verified = draft.email.as_ref().filter(|(_, verified)| *verified);
        let address = verified.map(|(address, _)| address.key());
        if let Some(address) = &address
            && self.storage.state().claim(Claim::Email(address), holder).await? != Claimed::Yes
        {
            // Another call with the same link may be about to make this account: then only the sweep
            // can tell whether the claim is used. An id of the operator's is this call's alone.
            if draft.origin.is_empty() {
                self.storage.state().release(Claim::Login(&login), holder).await?;
            }
            return Err(AccountError::EmailTaken);
        }
        let record = self.account_record(&draft);
        let stored = self
            .storage
            .state()
            .change::<User, _>(&draft.id, |present| match present {
                Some(_) => Err(AccountError::Exists),
                None => Ok(RecordChange::Put(record.clone())),
            })
            .await;
        match stored {
            Ok(_) => {}
            // Somebody used the same link with another login: the account that is there keeps its own.
            Err(error) => {
                let error = flatten(error);
                if matches!(error, AccountError::Exists) {
                    self.release_unused(&draft.id, &login, address.as_deref()).await?;
                }
                return Err(error);
            }
        }
        // A repetition or the sweep may have released a claim meanwhile: claim it again. It fails if this
        // process was suspended so long that somebody else has it. Then the account is undone.
        self.barrier.pass(CallKind::Write).await?;
        let address = address.as_deref();
        let names = [(Claim::Login(&login), AccountError::LoginTaken)].into_iter();
        let names = names.chain(address.map(|one| (Claim::Email(one), AccountError::EmailTaken)));
        for (claim, taken) in names {
            if self.storage.state().claim(claim, holder).await? != Claimed::Yes {
                self.put_tombstone(&draft.id, &draft.origin).await?;
                self.storage.state().release(Claim::Login(&login), holder).await?;
                return Err(taken);
            }
        }
        log::info!(user:% = draft.id; "account created");
        Ok(record)
    }

    /// Leaves a tombstone in the place of an account: nobody makes one with this id again.
    async fn put_tombstone(&self, id: &UserId, origin: &str) -> Result<(), StorageError> {
        let tombstone = tombstone(id, origin);
        self.storage
            .state()
            .change::<User, _>(id, |_| -> Result<_, Infallible> {
                Ok(RecordChange::Put(tombstone.clone()))
            })
            .await
            .map_err(StorageError::from)?;
        Ok(())
    }

    /// Whether a verified address makes its user owner (`owners.emails`).
    pub(super) fn is_owner_address(&self, address: &str) -> bool {
        let address = address.trim().to_lowercase();
        self.config.owner_emails.iter().any(|one| one.trim().to_lowercase() == address)
    }

    /// Whether the account can be created, as far as this process knows.
    pub(super) fn check(&self, draft: &AccountDraft) -> Result<(), AccountError> {
        self.storage.state().read(|tables| {
            if is_login_reserved(tables, draft.login.as_str()) {
                return Err(AccountError::LoginTaken);
            }
            let login = tables.user_by_login(draft.login.as_str());
            if login.is_some_and(|user| user.id != draft.id) {
                return Err(AccountError::LoginTaken);
            }
            let people = tables.users.values().filter(|user| !user.deleted && !user.is_bot).count();
            let full = self.config.max_users.is_some_and(|max| people >= max as usize);
            if full && !draft.is_first_owner { Err(AccountError::UsersFull) } else { Ok(()) }
        })
    }

    fn account_record(&self, draft: &AccountDraft) -> User {
        let owner_by_address = draft.email.as_ref().is_some_and(|(address, verified)| {
            *verified && self.is_owner_address(address.as_str())
        });
        let mut user = User {
            login: draft.login.as_str().to_owned(),
            display_name: draft.display_name.as_ref().map_or("", DisplayName::as_str).to_owned(),
            created_ms: self.clock.unix_ms(),
            password_hash: draft.password_hash.clone(),
            roles: draft.role.iter().cloned().collect(),
            emails: draft
                .email
                .iter()
                .map(|(address, verified)| EmailAddress {
                    address: address.as_str().to_owned(),
                    verified: *verified,
                })
                .collect(),
            session_generation: 1,
            origin: draft.origin.clone(),
            ..User::new(draft.id)
        };
        if owner_by_address {
            user.add_role(OWNER);
        }
        user
    }

    /// Gives claims back that the account of this id does not use.
    async fn release_unused(
        &self,
        id: &UserId,
        login: &str,
        address: Option<&str>,
    ) -> Result<(), StorageError> {
        let present = self.storage.state().read(|tables| tables.users.get(id).cloned());
        let Some(present) = present else { return Ok(()) };
        if present.login.to_ascii_lowercase() != login {
            self.storage.state().release(Claim::Login(login), *id).await?;
        }
        let has = |address: &str| {
            present.emails.iter().any(|one| one.verified && one.address.to_lowercase() == address)
        };
        if let Some(address) = address.filter(|address| !has(address)) {
            self.storage.state().release(Claim::Email(address), *id).await?;
        }
        Ok(())
    }
}

/// The role to assign under a name; `everyone` and unknown names are none.
pub(super) fn assignable_role(storage: &Storage, name: &str) -> Result<String, AccountError> {
    let known = storage.state().read(|tables| tables.roles.contains_key(name));
    let assignable = known && name != EVERYONE;
    assignable.then(|| name.to_owned()).ok_or(AccountError::UnknownRole)
}

/// A record in the place of an account that must not be created again.
pub(super) fn tombstone(id: &UserId, origin: &str) -> User {
    User { origin: origin.to_owned(), deleted: true, ..User::new(*id) }
}

/// Whether a login is kept back on this server.
pub(super) fn is_login_reserved(tables: &Tables, login: &str) -> bool {
    let roles = tables.roles.keys().map(String::as_str);
    match &tables.server.blocked_logins {
        Some(blocked) => is_reserved_login(login, roles, blocked.iter().map(String::as_str)),
        None => is_reserved_login(login, roles, DEFAULT_BLOCKED_LOGINS),
    }
}

/// Whether an account has the role `owner`.
pub(super) fn is_owner(user: &User) -> bool {
    !user.deleted && user.has_role(OWNER)
}

/// Whether the server has an owner.
pub(super) fn has_owner(tables: &Tables) -> bool {
    tables.users.values().any(|user| is_owner(user))
}
