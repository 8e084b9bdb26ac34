//! Setup and join links: owners and the operator make, list and revoke them. A link can be used only while its
//! maker is an owner. [`SignUp`](super::SignUp) makes accounts with them.
//!
//! Only the keyed hash of a link's token is stored (AUTH_TOKENS). A link's id is this hash: with it a link
//! can be revoked, but not used.

use std::convert::Infallible;
use std::time::Duration;

use super::barrier::ReadBarrier;
use super::create_account::{
    AccountError, assignable_role, has_owner, is_login_reserved, is_owner, tombstone,
};
use super::error::StoreError;
use super::{CallKind, ErrorKind, LinkContent, LinkView, OpenLink, Session, millis};
use crate::crypto::{MacKey, from_hex, hex, sha256, token_text};
use crate::domain::text::{DisplayName, Email, Login};
use crate::domain::{JoinLink, ServerSettings, Token, TokenKind, User, UserId};
use crate::limits::{JOIN_LINK_TTL, SETUP_LINK_TTL};
use crate::runtime::Clock;
use crate::storage::{RecordChange, Storage, StorageError};

/// What a join link fixes; the page asks for the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinFields {
    pub login: Option<String>,
    pub display_name: Option<String>,
    /// The address; it counts as verified.
    pub email: Option<String>,
    pub role: Option<String>,
}

/// A link was not made, listed or revoked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("this server already has an owner")]
    OwnerExists,
    /// Only owners make, list and revoke join links.
    #[error("permission denied")]
    Denied,
    #[error("no open join link has this id")]
    Unknown,
    /// A value breaks a rule.
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LinkError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::OwnerExists => ErrorKind::AlreadyExists,
            Self::Denied => ErrorKind::PermissionDenied,
            Self::Unknown => ErrorKind::NotFound,
            Self::Account(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<StorageError> for LinkError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// Setup and join links: made, listed, revoked.
#[derive(Clone, Copy)]
pub struct Links<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) barrier: ReadBarrier<'a>,
    pub(super) tokens: &'a MacKey,
}

impl Links<'_> {
    /// A new setup link for the first owner; it replaces every former one.
    ///
    /// # Errors
    /// [`LinkError::OwnerExists`], [`LinkError::Store`].
    ///
    /// # Cancel safety
    /// Dropping it may leave a record that no link points to; it expires.
    pub async fn setup_link(self) -> Result<LinkView, LinkError> {
        self.barrier.pass(CallKind::Write).await?;
        if self.storage.state().read(has_owner) {
            return Err(LinkError::OwnerExists);
        }
        let record = Token::new(TokenKind::Setup);
        let (link, hash) = self.store_link(record, SETUP_LINK_TTL).await?;
        let name = hex(&hash);
        self.storage
            .state()
            .change::<ServerSettings, _>(&(), |server| {
                let server = server.cloned().unwrap_or_default();
                Ok(RecordChange::Put(ServerSettings { setup_token_hash: name.clone(), ..server }))
            })
            .await
            .map_err(StorageError::from)?;
        log::info!("setup link created");
        Ok(link)
    }

    /// A new join link on an owner's behalf.
    ///
    /// # Errors
    /// [`LinkError::Denied`] for others than owners; [`LinkError::Account`] for a value that breaks a
    /// rule or a login that is taken.
    ///
    /// # Cancel safety
    /// As [`Self::setup_link`].
    pub async fn join_link(
        self,
        session: &Session,
        fields: JoinFields,
    ) -> Result<LinkView, LinkError> {
        self.check_link_owner(session)?;
        self.make_join_link(fields, Some(session)).await
    }

    /// A new join link on the operator's behalf.
    ///
    /// # Errors
    /// [`LinkError::Account`] for a value that breaks a rule or a login that is taken.
    ///
    /// # Cancel safety
    /// As [`Self::setup_link`].
    pub async fn operator_join_link(self, fields: JoinFields) -> Result<LinkView, LinkError> {
        self.barrier.pass(CallKind::Write).await?;
        self.make_join_link(fields, None).await
    }

    async fn make_join_link(
        &self,
        fields: JoinFields,
        maker: Option<&Session>,
    ) -> Result<LinkView, LinkError> {
        let join = self.checked_fields(fields)?;
        let created_by = maker.map(|session| session.user);
        let record = Token {
            join: Some(JoinLink { created_by, ..join }),
            session_generation: maker.map_or(0, |session| session.generation),
            ..Token::new(TokenKind::Join)
        };
        let (link, _) = self.store_link(record, JOIN_LINK_TTL).await?;
        log::info!("join link created");
        Ok(link)
    }

    fn checked_fields(&self, fields: JoinFields) -> Result<JoinLink, AccountError> {
        let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let mut join = JoinLink { email_verified: true, ..JoinLink::default() };
        if let Some(login) = given(fields.login) {
            let login = Login::parse(&login)?;
            let taken = self.storage.state().read(|tables| {
                is_login_reserved(tables, login.as_str())
                    || tables.user_by_login(login.as_str()).is_some()
            });
            if taken {
                return Err(AccountError::LoginTaken);
            }
            join.login = login.as_str().to_owned();
        }
        if let Some(name) = given(fields.display_name) {
            join.display_name = DisplayName::parse(&name)?.as_str().to_owned();
        }
        if let Some(address) = given(fields.email) {
            let address = Email::parse(&address)?;
            if self.storage.state().read(|tables| tables.user_by_email(address.as_str()).is_some())
            {
                return Err(AccountError::EmailTaken);
            }
            join.email = address.as_str().to_owned();
        }
        if let Some(role) = given(fields.role) {
            join.role = assignable_role(self.storage, role.trim())?;
        }
        Ok(join)
    }

    async fn store_link(
        &self,
        record: Token,
        ttl: Duration,
    ) -> Result<(LinkView, [u8; 32]), StorageError> {
        let token = token_text();
        let hash = self.hash(&token);
        let now = self.clock.unix_ms();
        let expires_ms = now.saturating_add(millis(ttl));
        let record = Token { created_ms: now, expires_ms, ..record };
        self.storage.tokens().create(&hash, &record, ttl).await?;
        Ok((LinkView { id: hex(&hash), path: format!("/setup#{token}"), expires_ms }, hash))
    }

    /// The keyed hash under which a link's token is stored.
    pub(super) fn hash(&self, token: &str) -> [u8; 32] {
        self.tokens.mac(format!("link:{token}").as_bytes())
    }

    /// The join links that can be used now, the newest first; for owners.
    ///
    /// # Errors
    /// [`LinkError::Denied`], [`LinkError::Store`].
    pub async fn join_links(self, session: &Session) -> Result<Vec<OpenLink>, LinkError> {
        self.check_link_owner(session)?;
        self.open_links().await
    }

    /// The join links that can be used now, the newest first; for the operator.
    ///
    /// # Errors
    /// [`LinkError::Store`].
    pub async fn operator_join_links(self) -> Result<Vec<OpenLink>, LinkError> {
        self.barrier.try_pass().await;
        self.open_links().await
    }

    /// Revokes a join link on an owner's behalf, whoever made it.
    ///
    /// # Errors
    /// [`LinkError::Denied`]; [`LinkError::Unknown`] when no usable link has this id, or it has just made its
    /// account; [`LinkError::Store`].
    ///
    /// # Cancel safety
    /// Dropping it may or may not have revoked the link.
    pub async fn revoke_join_link(self, session: &Session, id: &str) -> Result<(), LinkError> {
        self.check_link_owner(session)?;
        self.revoke(id).await
    }

    /// Revokes a join link on the operator's behalf.
    ///
    /// # Errors
    /// [`LinkError::Unknown`], [`LinkError::Store`].
    ///
    /// # Cancel safety
    /// As [`Self::revoke_join_link`].
    pub async fn operator_revoke_join_link(self, id: &str) -> Result<(), LinkError> {
        self.barrier.pass(CallKind::Write).await?;
        self.revoke(id).await
    }

    pub(super) fn check_link_owner(&self, session: &Session) -> Result<(), LinkError> {
        let owner = self
            .storage
            .state()
            .read(|tables| tables.users.get(&session.user).is_some_and(|user| is_owner(user)));
        if owner { Ok(()) } else { Err(LinkError::Denied) }
    }

    /// Whether a link can be used now, as far as its record and its maker go: it is not used or expired, and was
    /// made by the operator's command or by somebody who is an owner and whose session then has not been ended.
    pub(super) fn is_usable(&self, token: &Token) -> bool {
        !token.used && self.clock.unix_ms() < token.expires_ms && self.is_maker_still_owner(token)
    }

    fn is_maker_still_owner(&self, token: &Token) -> bool {
        let maker = token.join.as_ref().and_then(|join| join.created_by);
        let Some(maker) = maker else { return true };
        self.storage.state().read(|tables| {
            tables.users.get(&maker).is_some_and(|user| {
                is_owner(user) && user.session_generation == token.session_generation
            })
        })
    }

    /// Ends the open links of a maker who has just lost the role or got a new password: nobody makes an account
    /// with one of them any more, also where somebody is using it right now.
    pub(super) async fn end_all_of(&self, maker: &UserId) -> Result<(), StoreError> {
        let made = |token: &Token| {
            !token.used && token.join.as_ref().is_some_and(|join| join.created_by == Some(*maker))
        };
        for (hash, _) in self.storage.tokens().list(made).await? {
            self.end_link(&hash).await?;
        }
        Ok(())
    }

    /// Ends a link; `false`: it has made its account already. The account's record decides, because both who
    /// ends the link and who uses it write that one by compare-and-set: whoever is second finds the other's.
    async fn end_link(&self, hash: &[u8; 32]) -> Result<bool, StorageError> {
        let id = account_id(hash);
        let tombstone = tombstone(&id, &hex(hash));
        let mut is_used = false;
        self.storage
            .state()
            .change::<User, _>(&id, |present| -> Result<_, Infallible> {
                is_used = present.is_some_and(|user| !user.deleted);
                Ok(if present.is_some() {
                    RecordChange::Keep
                } else {
                    RecordChange::Put(tombstone.clone())
                })
            })
            .await
            .map_err(StorageError::from)?;
        self.storage.tokens().delete(hash).await?;
        Ok(!is_used)
    }

    async fn open_links(&self) -> Result<Vec<OpenLink>, LinkError> {
        let found = self.storage.tokens().list(|token| self.is_open_join(token)).await?;
        let mut links = Vec::with_capacity(found.len());
        for (hash, _) in found {
            // What was found may be old; a link that was used or revoked since is not shown.
            if let Some(found) = self.storage.tokens().get(&hash).await?
                && self.is_open_join(&found.token)
            {
                links.push(self.open_link(&hash, &found.token));
            }
        }
        links.sort_by_key(|link| std::cmp::Reverse(link.created_ms));
        Ok(links)
    }

    fn is_open_join(&self, token: &Token) -> bool {
        token.kind == TokenKind::Join && self.is_usable(token)
    }

    async fn revoke(&self, id: &str) -> Result<(), LinkError> {
        let hash = from_hex(id).ok_or(LinkError::Unknown)?;
        let found = self.storage.tokens().get(&hash).await?;
        found.filter(|found| self.is_open_join(&found.token)).ok_or(LinkError::Unknown)?;
        if !self.end_link(&hash).await? {
            return Err(LinkError::Unknown);
        }
        log::info!("join link revoked");
        Ok(())
    }

    fn open_link(&self, hash: &[u8; 32], token: &Token) -> OpenLink {
        let join = token.join.clone().unwrap_or_default();
        let maker = self.storage.state().read(|tables| {
            let id = join.created_by?;
            Some((id, tables.users.get(&id)?.login.clone()))
        });
        OpenLink {
            id: hex(hash),
            maker,
            created_ms: token.created_ms,
            expires_ms: token.expires_ms,
            content: content(token.kind, join),
        }
    }
}

/// The id of the account that a link makes.
pub(super) fn account_id(hash: &[u8; 32]) -> UserId {
    let digest = sha256(&[b"account of ".as_slice(), hash].concat());
    let mut number = [0; 8];
    number.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    UserId::from_number(u64::from_be_bytes(number))
}

/// What a link fixes.
pub(super) fn content(kind: TokenKind, join: JoinLink) -> LinkContent {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    LinkContent {
        is_setup: kind == TokenKind::Setup,
        login: given(join.login),
        display_name: given(join.display_name),
        email: given(join.email),
        role: given(join.role),
    }
}
