//! Links that get people in: the first owner's setup link and join links.
//!
//! Only the keyed hash of a link's token is stored (AUTH_TOKENS). The account is made first, under an
//! id derived from the token (for the first owner: from the server), create-only; then the record is
//! marked used by compare-and-set. A kill between the two loses nothing: the repetition finds the
//! account, and the right password completes the log-in.

use std::net::IpAddr;
use std::time::Duration;

use super::create_account::{AccountDraft, AccountError, has_owner, is_owner};
use super::link_error::{LinkError, RedeemError};
use super::open_links::content;
use super::{CallKind, LinkContent, LinkView, LoggedIn, Service, Session, millis};
use crate::crypto::{hex, sha256, token_text};
use crate::domain::UserId;
use crate::domain::permission::OWNER;
use crate::domain::text::{DisplayName, Email, Login, Password};
use crate::limits::{JOIN_LINK_TTL, SETUP_LINK_TTL};
use crate::storage::records::{JoinLink, ServerConfig, Token, TokenKind, User};
use crate::storage::{Change, StorageError};

/// Longer texts are no token of ours.
const TOKEN_MAX_BYTES: usize = 128;
/// First owners tried after accounts of former ones; far more than anybody deletes.
const FIRST_OWNERS_MAX: u32 = 10_000;

/// What a join link fixes; the page asks for the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinFields {
    /// The login.
    pub login: Option<String>,
    /// The display name.
    pub display_name: Option<String>,
    /// The address; it counts as verified.
    pub email: Option<String>,
    /// The role to assign.
    pub role: Option<String>,
}

/// What the page of a link sends.
#[derive(Clone, Copy)]
pub struct RedeemRequest<'a> {
    /// The token behind `/setup#`.
    pub token: &'a str,
    /// The login; a given one counts instead.
    pub login: &'a str,
    /// The display name; a given one counts instead. Empty: the login is shown.
    pub display_name: &'a str,
    /// The password.
    pub password: &'a str,
    /// The address; a given one counts instead.
    pub email: Option<&'a str>,
    /// Where it comes from.
    pub address: IpAddr,
}

/// A link's record that counts now.
struct FoundLink {
    hash: [u8; 32],
    token: Token,
    revision: u64,
}

impl Service {
    /// A new setup link for the first owner; it replaces every former one.
    ///
    /// # Errors
    /// [`LinkError::OwnerExists`], [`LinkError::Store`].
    ///
    /// # Cancel safety
    /// Dropping it may leave a record that no link points to; it expires.
    pub async fn setup_link(&self) -> Result<LinkView, LinkError> {
        self.barrier(CallKind::Change).await?;
        if self.has_owner() {
            return Err(LinkError::OwnerExists);
        }
        let record = Token { kind: TokenKind::Setup.into(), ..Token::default() };
        let (link, hash) = self.store_link(record, SETUP_LINK_TTL).await?;
        let name = hex(&hash);
        self.storage()
            .change_server(|server| {
                let server = server.cloned().unwrap_or_default();
                Ok(Change::Put(ServerConfig { setup_token_hash: name.clone(), ..server }))
            })
            .await
            .map_err(StorageError::from)?;
        log::info!("setup link made");
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
        &self,
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
    pub async fn operator_join_link(&self, fields: JoinFields) -> Result<LinkView, LinkError> {
        self.barrier(CallKind::Change).await?;
        self.make_join_link(fields, None).await
    }

    /// What a link fixes, for its page.
    ///
    /// # Errors
    /// [`RedeemError::Invalid`], [`RedeemError::OwnerExists`], [`RedeemError::Store`].
    pub async fn link_content(&self, token: &str) -> Result<LinkContent, RedeemError> {
        self.try_barrier().await;
        let link = self.find_link(token).await?;
        let kind = link.token.kind();
        Ok(content(kind, link.token.join.unwrap_or_default()))
    }

    /// Makes the account of a setup or join link and logs it in.
    ///
    /// # Errors
    /// [`RedeemError`]. After [`RedeemError::Account`] and [`RedeemError::Store`] the link is usable.
    ///
    /// # Cancel safety
    /// Dropping it leaves the link usable, or the account made; then the same values complete it.
    pub async fn redeem(&self, request: RedeemRequest<'_>) -> Result<LoggedIn, RedeemError> {
        self.barrier(CallKind::Change).await?;
        let link = self.find_link(request.token).await?;
        let (hash, address) = (link.hash, request.address);
        if let Some(retry_after) = self.link_wait(&hash, address).await? {
            return Err(RedeemError::Throttled { retry_after });
        }
        let redeemed = Box::pin(self.redeem_link(link, request)).await;
        if redeemed.as_ref().is_err_and(RedeemError::is_refusal) {
            self.count_refused_link(&hash, address).await?;
        }
        redeemed
    }

    async fn redeem_link(
        &self,
        link: FoundLink,
        request: RedeemRequest<'_>,
    ) -> Result<LoggedIn, RedeemError> {
        let is_setup = link.token.kind() == TokenKind::Setup;
        let id = if is_setup { self.first_owner_id(&link)? } else { account_id(&link.hash) };
        let present = self.storage().read(|tables| tables.users.get(&id).cloned());
        if present.as_ref().is_some_and(|user| user.deleted) {
            return Err(RedeemError::Invalid);
        }
        if let Some(present) = present {
            return self.complete(&link, &present, request).await;
        }
        let (draft, password) = self.draft(&link, id, request)?;
        // A hash costs much: not for what is refused anyway.
        self.check_account(&draft)?;
        let password_hash = self.hash_password(&password).await.map_err(AccountError::from)?;
        // A hash may wait for a slot: the link may have been revoked, or its maker demoted, meanwhile.
        self.barrier(CallKind::Change).await?;
        let link = self.find_link(request.token).await?;
        let user = match self.create_account(AccountDraft { password_hash, ..draft }).await {
            Ok(user) => user,
            Err(AccountError::Exists) => return Err(RedeemError::Invalid),
            Err(error) => return Err(error.into()),
        };
        self.mark_used(&link).await?;
        Ok(self.start_session(&user).await?)
    }

    /// Whether the server has an owner, as far as this process knows.
    #[must_use]
    pub fn has_owner(&self) -> bool {
        self.storage().read(has_owner)
    }

    async fn make_join_link(
        &self,
        fields: JoinFields,
        maker: Option<&Session>,
    ) -> Result<LinkView, LinkError> {
        let join = self.checked_fields(fields)?;
        let created_by = maker.map_or_else(String::new, |session| session.user.to_string());
        let record = Token {
            kind: TokenKind::Join.into(),
            join: Some(JoinLink { created_by, ..join }),
            session_generation: maker.map_or(0, |session| session.generation),
            ..Token::default()
        };
        let (link, _) = self.store_link(record, JOIN_LINK_TTL).await?;
        log::info!("join link made");
        Ok(link)
    }

    fn checked_fields(&self, fields: JoinFields) -> Result<JoinLink, AccountError> {
        let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let mut join = JoinLink { email_verified: true, ..JoinLink::default() };
        if let Some(login) = given(fields.login) {
            let login = Login::parse(&login)?;
            let taken = self.storage().read(|tables| {
                super::create_account::is_login_reserved(tables, login.as_str())
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
            if self.storage().read(|tables| tables.user_by_email(address.as_str()).is_some()) {
                return Err(AccountError::EmailTaken);
            }
            join.email = address.as_str().to_owned();
        }
        if let Some(role) = given(fields.role) {
            join.role = self.assignable_role(role.trim())?;
        }
        Ok(join)
    }

    async fn store_link(
        &self,
        record: Token,
        ttl: Duration,
    ) -> Result<(LinkView, [u8; 32]), StorageError> {
        let token = token_text();
        let hash = self.link_hash(&token);
        let now = self.now_ms();
        let expires_ms = now.saturating_add(millis(ttl));
        let record = Token { created_ms: now, expires_ms, ..record };
        self.storage().token_create(&hash, &record, ttl).await?;
        Ok((LinkView { id: hex(&hash), path: format!("/setup#{token}"), expires_ms }, hash))
    }

    /// The record of a token that counts now.
    async fn find_link(&self, token: &str) -> Result<FoundLink, RedeemError> {
        if token.is_empty() || token.len() > TOKEN_MAX_BYTES {
            return Err(RedeemError::Invalid);
        }
        let hash = self.link_hash(token);
        let found = self.storage().token(&hash).await?;
        let (token, revision) = found.ok_or(RedeemError::Invalid)?;
        if !self.is_usable(&token) {
            return Err(RedeemError::Invalid);
        }
        match token.kind() {
            TokenKind::Join => {}
            TokenKind::Setup => {
                let name = hex(&hash);
                let newest = self.storage().read(|tables| tables.server.setup_token_hash == name);
                if !newest {
                    return Err(RedeemError::Invalid);
                }
                let by_this = |user: &User| is_owner(user) && user.origin == name;
                let completes =
                    self.storage().read(|tables| tables.users.values().any(|user| by_this(user)));
                if self.has_owner() && !completes {
                    return Err(RedeemError::OwnerExists);
                }
            }
            TokenKind::Bearer | TokenKind::Cookie => return Err(RedeemError::Invalid),
        }
        Ok(FoundLink { hash, token, revision })
    }

    /// The id of the first owner's account: the same whatever link makes it, so that two links at
    /// once make one owner. Accounts of former first owners are passed over.
    fn first_owner_id(&self, link: &FoundLink) -> Result<UserId, RedeemError> {
        let origin = hex(&link.hash);
        let server = self.storage().server_id().to_owned();
        for number in 0..FIRST_OWNERS_MAX {
            let digest = sha256(format!("first owner {number} of {server}").as_bytes());
            let id = account_id(&digest);
            let free = self.storage().read(|tables| {
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
        link: &FoundLink,
        id: UserId,
        request: RedeemRequest<'_>,
    ) -> Result<(AccountDraft, Password), AccountError> {
        let is_setup = link.token.kind() == TokenKind::Setup;
        let join = link.token.join.clone().unwrap_or_default();
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
            // Whoever holds the setup link is the operator, a guest is anybody.
            (typed.map(str::to_owned), is_setup)
        } else {
            (Some(join.email.clone()), join.email_verified)
        };
        let address = address.map(|address| Email::parse(&address)).transpose()?;
        let role = match (is_setup, join.role.as_str()) {
            (true, _) => Some(OWNER.to_owned()),
            (false, "") => None,
            (false, role) => Some(self.assignable_role(role)?),
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
        link: &FoundLink,
        user: &User,
        request: RedeemRequest<'_>,
    ) -> Result<LoggedIn, RedeemError> {
        let fixed = link.token.join.as_ref().map_or("", |join| join.login.as_str());
        let login = if fixed.is_empty() { request.login } else { fixed };
        let stored = Some(user.password_hash.clone());
        let slot = self.password_slot().await.map_err(AccountError::from)?;
        // Before it is compared: of calls at once only one compares a password.
        if !self.mark_used(link).await? {
            return Err(RedeemError::Invalid);
        }
        let compared = self.compare_password(slot, stored, request.password).await;
        let same = compared.is_right && user.login.eq_ignore_ascii_case(login) && !user.deleted;
        if !same {
            return Err(RedeemError::Invalid);
        }
        Ok(self.start_session(user).await?)
    }

    /// Marks a link used; `false`: it changed meanwhile. That its account exists keeps it from making another.
    async fn mark_used(&self, link: &FoundLink) -> Result<bool, StorageError> {
        let left = self.time_left(&link.token);
        let used = Token { used: true, ..link.token.clone() };
        self.storage().token_replace(&link.hash, &used, link.revision, left).await
    }

    fn time_left(&self, token: &Token) -> Duration {
        let left = token.expires_ms.saturating_sub(self.now_ms());
        // JetStream counts life times in whole seconds, at least one.
        Duration::from_millis(u64::try_from(left).unwrap_or(0)).max(Duration::from_secs(1))
    }
}

/// The id of the account that a link makes.
pub(super) fn account_id(hash: &[u8; 32]) -> UserId {
    let digest = sha256(&[b"account of ".as_slice(), hash].concat());
    let mut number = [0; 8];
    number.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    UserId::from_number(u64::from_be_bytes(number))
}
