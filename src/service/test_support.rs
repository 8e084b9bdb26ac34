//! What only builds with the feature `test-support` may do: bootstrap data, accounts and sessions made
//! without a log-in. Nothing here checks a permission.

use std::convert::Infallible;

use super::accounts::ManageAccountError;
use super::create_account::{AccountDraft, AccountError};
use super::error::StoreError;
use super::{CallKind, LoggedIn, NewUser, RoomError, Service, Session};
use crate::crypto::random;
use crate::domain::permission::{ANNOUNCEMENTS, GENERAL, OWNER};
use crate::domain::text::{DisplayName, Email, Login, RoomName};
use crate::domain::{EmailAddress, Room, RoomId, ServerSettings, User, UserId};
use crate::storage::{Claim, Claimed, RecordChange, StorageError};

/// Longest login; a name of an address is cut to it.
const LOGIN_MAX: usize = 32;

/// `[bootstrap.server]`
#[derive(Debug, Clone, Copy)]
pub struct BootstrapServer<'a> {
    pub name: Option<&'a str>,
    /// Channels besides the default rooms.
    pub rooms: &'a [String],
}

/// Bootstrap data could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("the user {login} of [[bootstrap.users]] cannot be created")]
    User {
        login: String,
        #[source]
        source: ManageAccountError,
    },
    /// A room, or a membership in one.
    #[error("the rooms of [bootstrap.server] cannot be filled")]
    Room(#[from] RoomError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<StorageError> for BootstrapError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// Somebody who came in by a provider.
#[derive(Debug, Clone)]
pub struct ProviderUser {
    pub id: UserId,
    pub login: String,
    pub is_new: bool,
}

/// What tests of clients may do.
#[derive(Clone, Copy)]
pub struct TestSupport<'a> {
    pub(super) service: &'a Service,
}

impl TestSupport<'_> {
    /// Fills a server without users. A server that has some stays as it is.
    ///
    /// # Cancel safety
    /// Dropping it leaves a part; a test begins with a new server.
    pub async fn bootstrap(
        self,
        users: &[NewUser<'_>],
        server: Option<BootstrapServer<'_>>,
    ) -> Result<(), BootstrapError> {
        self.service.read_barrier().pass(CallKind::Write).await?;
        if self
            .service
            .storage()
            .state()
            .read(|tables| tables.users.values().any(|user| !user.deleted))
        {
            return Ok(());
        }
        for user in users {
            let id = self.bootstrap_user(*user).await?;
            if server.is_some() {
                self.join_by_bootstrap(id).await?;
            }
        }
        if let Some(server) = server {
            self.name_server(server.name).await?;
            for name in server.rooms {
                self.bootstrap_room(name).await?;
            }
        }
        Ok(())
    }

    /// The two default rooms, in their order.
    #[must_use]
    pub fn default_rooms(&self) -> [RoomId; 2] {
        [
            self.service.first_boot().room_id(&ANNOUNCEMENTS),
            self.service.first_boot().room_id(&GENERAL),
        ]
    }

    /// Starts a session without a password.
    ///
    /// # Errors
    /// [`ManageAccountError::UnknownUser`], [`ManageAccountError::Store`].
    ///
    /// # Cancel safety
    /// Dropping it may leave a session nobody knows, which expires.
    pub async fn start_test_session(self, id: &UserId) -> Result<LoggedIn, ManageAccountError> {
        Ok(self.service.sessions().start(&*self.living_user(id)?).await?)
    }

    /// Joins both default rooms as the user of `session`.
    ///
    /// # Cancel safety
    /// As [`super::Rooms::join`].
    pub async fn join_default_rooms(self, session: &Session) -> Result<(), RoomError> {
        for room in self.default_rooms() {
            self.service.rooms().join(session, room.as_str()).await?;
        }
        Ok(())
    }

    /// Adds a verified address; one of `owners.emails` makes its user owner.
    ///
    /// # Errors
    /// [`ManageAccountError::UnknownUser`]; [`AccountError::EmailTaken`].
    ///
    /// # Cancel safety
    /// Dropping it may leave a claim, which the sweep releases.
    pub async fn add_verified_email(
        self,
        user: &str,
        email: &Email,
    ) -> Result<(), ManageAccountError> {
        self.service.read_barrier().pass(CallKind::Write).await?;
        let id = UserId::try_from(user).map_err(|_| ManageAccountError::UnknownUser)?;
        self.living_user(&id)?;
        let key = email.key();
        if self.service.storage().state().claim(Claim::Email(&key), id).await? != Claimed::Yes {
            return Err(AccountError::EmailTaken.into());
        }
        let is_owner_address = self.service.account_creation().is_owner_address(email.as_str());
        self.service
            .accounts()
            .change_account(&id, |user| {
                user.emails.retain(|one| one.address.to_lowercase() != key);
                user.emails
                    .push(EmailAddress { address: email.as_str().to_owned(), verified: true });
                if is_owner_address {
                    user.add_role(OWNER);
                }
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// Finds the user of a verified address, or makes one without a password.
    ///
    /// # Errors
    /// [`ManageAccountError::Account`], [`ManageAccountError::Store`].
    ///
    /// # Cancel safety
    /// As an account's: whole, or claims that are swept.
    pub async fn provider_user(
        self,
        email: &Email,
        display_name: Option<&str>,
    ) -> Result<ProviderUser, ManageAccountError> {
        self.service.read_barrier().pass(CallKind::Write).await?;
        let found = self
            .service
            .storage()
            .state()
            .read(|tables| tables.user_by_email(email.as_str()).cloned());
        if let Some(user) = found.filter(|user| !user.deleted) {
            return Ok(ProviderUser { id: user.id, login: user.login.clone(), is_new: false });
        }
        let name = display_name.filter(|name| !name.trim().is_empty());
        let name = name.map(DisplayName::parse).transpose().map_err(AccountError::from)?;
        let id = UserId::from_number(u64::from_be_bytes(random()));
        let draft = AccountDraft {
            id,
            login: Login::parse(&login_of(email)).map_err(AccountError::from)?,
            display_name: name,
            email: Some((email.clone(), true)),
            role: None,
            password_hash: String::new(),
            origin: String::new(),
            is_first_owner: false,
        };
        let user = self.service.account_creation().create(draft).await?;
        Ok(ProviderUser { id, login: user.login, is_new: true })
    }

    async fn bootstrap_user(&self, user: NewUser<'_>) -> Result<UserId, BootstrapError> {
        match self.service.accounts().create(user).await {
            Ok(made) => Ok(made.user.id),
            Err(error) => {
                // Another process of this server may be doing the same.
                self.service.read_barrier().pass(CallKind::Write).await?;
                let other = self
                    .service
                    .storage()
                    .state()
                    .read(|tables| tables.user_by_login(user.login).cloned());
                let other = other.map(|user| user.id);
                other.ok_or(BootstrapError::User { login: user.login.to_owned(), source: error })
            }
        }
    }

    /// A row in `general`; everybody is in `announcements` by rule.
    async fn join_by_bootstrap(&self, user: UserId) -> Result<(), BootstrapError> {
        for room in self.default_rooms() {
            let universal = self.service.storage().state().read(|tables| {
                tables.rooms.get(&room).is_none_or(|room| room.universal || room.archived)
            });
            if !universal {
                self.service.rooms().add_member(room, user).await?;
            }
        }
        Ok(())
    }

    async fn name_server(&self, name: Option<&str>) -> Result<(), BootstrapError> {
        let Some(name) = name else { return Ok(()) };
        self.service
            .storage()
            .state()
            .change::<ServerSettings, _>(&(), |server| -> Result<_, Infallible> {
                let server = server.cloned().unwrap_or_default();
                Ok(RecordChange::Put(ServerSettings { name: name.to_owned(), ..server }))
            })
            .await
            .map_err(StorageError::from)?;
        Ok(())
    }

    async fn bootstrap_room(&self, name: &str) -> Result<(), BootstrapError> {
        let name = RoomName::parse(name).map_err(RoomError::from)?;
        let id =
            RoomId::from_random(self.service.first_boot().derived(&format!("room {}", name.key())));
        let group = self
            .service
            .storage()
            .state()
            .read(super::rooms::first_group)
            .ok_or(RoomError::GroupNotFound)?;
        let room = Room {
            name: name.as_str().to_owned(),
            group: Some(group),
            created_ms: self.service.inner.clock.unix_ms(),
            ..Room::new(id)
        };
        Ok(self.service.rooms().place_room(id, room, &name.key()).await?)
    }

    fn living_user(&self, id: &UserId) -> Result<std::sync::Arc<User>, ManageAccountError> {
        let user = self.service.storage().state().read(|tables| tables.users.get(id).cloned());
        user.filter(|user| !user.deleted).ok_or(ManageAccountError::UnknownUser)
    }
}

/// The login that a provider's address suggests.
fn login_of(email: &Email) -> String {
    let local = email.as_str().split('@').next().unwrap_or_default().to_lowercase();
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let login: String = local.chars().filter(fits).take(LOGIN_MAX).collect();
    if login.len() < 2 { "user".to_owned() } else { login }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_cut_from_an_address() {
        let login = |address: &str| login_of(&Email::parse(address).unwrap());
        assert_eq!(login("Anna.Lee+list@example.org"), "anna.leelist");
        assert_eq!(login("x@example.org"), "user");
        assert_eq!(login(&format!("{}@example.org", "a".repeat(40))).len(), LOGIN_MAX);
    }
}
