//! Accounts as the operator manages them: create, list, set a password, add and remove roles.

use super::barrier::ReadBarrier;
use super::create_account::{
    AccountCreation, AccountDraft, AccountError, assignable_role, has_owner, is_owner,
};
use super::error::{StoreError, flatten};
use super::links::Links;
use super::passwords::Passwords;
use super::throttle::Throttle;
use super::users::{Users, paged};
use super::{AccountView, CallKind, ErrorKind, Page, PageRequest};
use crate::crypto::random;
use crate::domain::permission::OWNER;
use crate::domain::text::{DisplayName, Email, Login, Password};
use crate::domain::{SessionEnd, User, UserId};
use crate::storage::{RecordChange, Storage, StorageError};

/// Entries of a list without a limit.
const LIST_DEFAULT: usize = 50;

/// An account the operator makes.
#[derive(Clone, Copy)]
pub struct NewUser<'a> {
    pub login: &'a str,
    /// The display name; `None`: the login is shown.
    pub display_name: Option<&'a str>,
    /// The address; it counts as verified.
    pub email: Option<&'a str>,
    pub role: Option<&'a str>,
    pub password: &'a str,
}

/// An account was not created or changed.
#[derive(Debug, thiserror::Error)]
pub enum ManageAccountError {
    #[error("no user has this login")]
    UnknownUser,
    #[error("a bot cannot have roles or a password")]
    Bot,
    #[error("owners.emails makes this user an owner; remove the address there first")]
    ListedOwner,
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ManageAccountError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownUser => ErrorKind::NotFound,
            Self::Bot | Self::ListedOwner => ErrorKind::FailedPrecondition,
            Self::Account(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<StorageError> for ManageAccountError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// Accounts as the operator manages them.
#[derive(Clone, Copy)]
pub struct Accounts<'a> {
    pub(super) storage: &'a Storage,
    pub(super) barrier: ReadBarrier<'a>,
    pub(super) creation: AccountCreation<'a>,
    pub(super) links: Links<'a>,
    pub(super) users: Users<'a>,
    pub(super) passwords: Passwords<'a>,
    pub(super) throttle: Throttle<'a>,
}

impl Accounts<'_> {
    /// Whether the server has an owner, as far as this process knows.
    #[must_use]
    pub fn has_owner(&self) -> bool {
        self.storage.state().read(has_owner)
    }

    /// Creates an account for the operator.
    ///
    /// # Errors
    /// [`ManageAccountError::Account`], [`ManageAccountError::Store`].
    ///
    /// # Cancel safety
    /// As the account's: whole, or claims that are swept.
    pub async fn create(self, new: NewUser<'_>) -> Result<AccountView, ManageAccountError> {
        self.barrier.pass(CallKind::Write).await?;
        let (draft, password) = self.operator_draft(new)?;
        let password_hash = self.passwords.hash(&password).await.map_err(AccountError::from)?;
        let user = self.creation.create(AccountDraft { password_hash, ..draft }).await?;
        Ok(self.account_view(user.id, &user))
    }

    /// Accounts by login, deleted ones left out.
    pub async fn list(self, search: &str, page: PageRequest) -> Page<AccountView> {
        self.barrier.try_pass().await;
        let needle = search.to_lowercase();
        let mut found: Vec<(UserId, std::sync::Arc<User>)> = self.storage.state().read(|tables| {
            let matches = |user: &User| {
                let has = |text: &str| text.to_lowercase().contains(&needle);
                !user.deleted
                    && (has(&user.login)
                        || has(&user.display_name)
                        || user.emails.iter().any(|one| has(&one.address)))
            };
            let users = tables.users.iter().filter(|(_, user)| matches(user));
            users.map(|(id, user)| (*id, std::sync::Arc::clone(user))).collect()
        });
        found.sort_by_key(|(_, user)| user.login.to_lowercase());
        paged(found, page, LIST_DEFAULT, |(id, user)| self.account_view(id, &user))
    }

    /// Sets a password and ends all sessions of the user.
    ///
    /// # Cancel safety
    /// Dropping it may or may not have set the password.
    pub async fn set_password(
        self,
        login: &str,
        password: &str,
    ) -> Result<AccountView, ManageAccountError> {
        self.barrier.pass(CallKind::Write).await?;
        let password = Password::parse(password).map_err(AccountError::from)?;
        let id = self.account_by_login(login)?;
        let hash = self.passwords.hash(&password).await.map_err(AccountError::from)?;
        let user = self
            .change_account(&id, |user| {
                user.password_hash.clone_from(&hash);
                user.session_generation = user.session_generation.saturating_add(1);
                user.session_end = Some(SessionEnd::PasswordReset);
                Ok(())
            })
            .await?;
        // Only owners have links: nobody else costs a search of AUTH_TOKENS.
        if is_owner(&user) {
            self.links.end_all_of(&id).await?;
        }
        // Guesses that locked the account must not keep its user out now.
        self.throttle.reset_account(&user).await?;
        log::info!(user:% = id; "password set by the operator");
        Ok(self.account_view(id, &user))
    }

    /// Assigns a role; a role that is assigned already stays.
    ///
    /// # Cancel safety
    /// Dropping it may or may not have assigned the role.
    pub async fn add_role(
        self,
        login: &str,
        role: &str,
    ) -> Result<AccountView, ManageAccountError> {
        self.barrier.pass(CallKind::Write).await?;
        let role = assignable_role(self.storage, role)?;
        let id = self.account_by_login(login)?;
        let user = self
            .change_account(&id, |user| {
                user.add_role(&role);
                Ok(())
            })
            .await?;
        log::info!(user:% = id, role = role.as_str(); "role added by the operator");
        Ok(self.account_view(id, &user))
    }

    /// Removes a role. Removing one that is not assigned succeeds.
    ///
    /// # Cancel safety
    /// Dropping it may or may not have removed the role.
    pub async fn remove_role(
        self,
        login: &str,
        role: &str,
    ) -> Result<AccountView, ManageAccountError> {
        self.barrier.pass(CallKind::Write).await?;
        let role = assignable_role(self.storage, role)?;
        let id = self.account_by_login(login)?;
        let user = self
            .change_account(&id, |user| {
                if role == OWNER && self.is_listed_owner(user) {
                    return Err(ManageAccountError::ListedOwner);
                }
                user.remove_role(&role);
                Ok(())
            })
            .await?;
        if role == OWNER {
            self.links.end_all_of(&id).await?;
        }
        log::info!(user:% = id, role = role.as_str(); "role removed by the operator");
        Ok(self.account_view(id, &user))
    }

    /// Makes every user owner whose verified address is in `owners.emails`; called at start.
    pub(super) async fn grant_listed_owners(&self) -> Result<(), StoreError> {
        let listed: Vec<UserId> = self.storage.state().read(|tables| {
            let missing = |user: &User| self.is_listed_owner(user) && !is_owner(user);
            tables.users.iter().filter(|(_, user)| missing(user)).map(|(id, _)| *id).collect()
        });
        for id in listed {
            let granted = self
                .change_account(&id, |user| {
                    user.add_role(OWNER);
                    Ok(())
                })
                .await;
            match granted {
                Ok(_) => log::info!(user:% = id; "owner by owners.emails"),
                Err(ManageAccountError::Store(error)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Whether `owners.emails` names a verified address of this user.
    fn is_listed_owner(&self, user: &User) -> bool {
        !user.deleted
            && user
                .emails
                .iter()
                .any(|one| one.verified && self.creation.is_owner_address(&one.address))
    }

    fn operator_draft(&self, new: NewUser<'_>) -> Result<(AccountDraft, Password), AccountError> {
        let given =
            |text: Option<&str>| text.filter(|text| !text.trim().is_empty()).map(str::to_owned);
        let name = given(new.display_name).map(|name| DisplayName::parse(&name)).transpose()?;
        let address = given(new.email).map(|address| Email::parse(&address)).transpose()?;
        let draft = AccountDraft {
            id: UserId::from_number(u64::from_be_bytes(random())),
            login: Login::parse(new.login)?,
            display_name: name,
            email: address.map(|address| (address, true)),
            role: given(new.role).map(|role| assignable_role(self.storage, &role)).transpose()?,
            password_hash: String::new(),
            origin: String::new(),
            is_first_owner: new.role == Some(OWNER) && !self.has_owner(),
        };
        Ok((draft, Password::parse(new.password)?))
    }

    fn account_by_login(&self, login: &str) -> Result<UserId, ManageAccountError> {
        let found = self.storage.state().read(|tables| tables.user_by_login(login).cloned());
        let user = found.filter(|user| !user.deleted).ok_or(ManageAccountError::UnknownUser)?;
        if user.is_bot {
            return Err(ManageAccountError::Bot);
        }
        Ok(user.id)
    }

    /// Changes an account that exists.
    pub(super) async fn change_account(
        &self,
        id: &UserId,
        mut change: impl FnMut(&mut User) -> Result<(), ManageAccountError>,
    ) -> Result<std::sync::Arc<User>, ManageAccountError> {
        let changed = self.storage.state().change::<User, _>(id, |present| {
            let present =
                present.filter(|user| !user.deleted).ok_or(ManageAccountError::UnknownUser)?;
            let mut user = present.clone();
            change(&mut user)?;
            Ok(if user == *present { RecordChange::Keep } else { RecordChange::Put(user) })
        });
        changed.await.map_err(flatten::<ManageAccountError>)?.ok_or(ManageAccountError::UnknownUser)
    }

    fn account_view(&self, id: UserId, user: &User) -> AccountView {
        let mut roles = user.roles.clone();
        roles.sort();
        AccountView {
            user: self.users.view(id, user),
            roles,
            emails: user.emails.iter().map(|one| (one.address.clone(), one.verified)).collect(),
            created_ms: user.created_ms,
        }
    }
}
