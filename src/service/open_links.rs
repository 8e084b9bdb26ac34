//! Join links that nobody has used yet: owners and the operator list and revoke them, and a link can be
//! used only while its maker is an owner.
//!
//! A link's id is its token's keyed hash: whoever sees the list can revoke, never use a link.

use std::convert::Infallible;

use super::create_account::{is_owner, tombstone};
use super::error::StoreError;
use super::links::account_id;
use super::{CallKind, LinkContent, LinkError, OpenLink, Service, Session};
use crate::crypto::{from_hex, hex};
use crate::domain::UserId;
use crate::storage::records::{JoinLink, Token, TokenKind};
use crate::storage::{Change, StorageError};

impl Service {
    /// The join links that can be used now, the newest first; for owners.
    ///
    /// # Errors
    /// [`LinkError::Denied`], [`LinkError::Store`].
    pub async fn join_links(&self, session: &Session) -> Result<Vec<OpenLink>, LinkError> {
        self.check_link_owner(session)?;
        self.open_links().await
    }

    /// The join links that can be used now, the newest first; for the operator.
    ///
    /// # Errors
    /// [`LinkError::Store`].
    pub async fn operator_join_links(&self) -> Result<Vec<OpenLink>, LinkError> {
        self.try_barrier().await;
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
    pub async fn revoke_join_link(&self, session: &Session, id: &str) -> Result<(), LinkError> {
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
    pub async fn operator_revoke_join_link(&self, id: &str) -> Result<(), LinkError> {
        self.barrier(CallKind::Change).await?;
        self.revoke(id).await
    }

    pub(super) fn check_link_owner(&self, session: &Session) -> Result<(), LinkError> {
        let owner = self
            .storage()
            .read(|tables| tables.users.get(&session.user).is_some_and(|user| is_owner(user)));
        if owner { Ok(()) } else { Err(LinkError::Denied) }
    }

    /// Whether a link can be used now, as far as its record and its maker go: it is not used or expired, and was
    /// made by the operator's command or by somebody who is an owner and whose session then has not been ended.
    pub(super) fn is_usable(&self, token: &Token) -> bool {
        !token.used && self.now_ms() < token.expires_ms && self.is_maker_still_owner(token)
    }

    fn is_maker_still_owner(&self, token: &Token) -> bool {
        let maker = token.join.as_ref().map_or("", |join| join.created_by.as_str());
        if maker.is_empty() {
            return true;
        }
        let Ok(maker) = UserId::try_from(maker) else { return false };
        self.storage().read(|tables| {
            tables.users.get(&maker).is_some_and(|user| {
                is_owner(user) && user.session_generation == token.session_generation
            })
        })
    }

    /// Ends the open links of a maker who has just lost the role or got a new password: nobody makes an account
    /// with one of them any more, also where somebody is using it right now.
    pub(super) async fn end_links_of(&self, maker: &UserId) -> Result<(), StoreError> {
        let made = |token: &Token| {
            !token.used && token.join.as_ref().is_some_and(|join| join.created_by == maker.as_str())
        };
        for (hash, _) in self.storage().tokens(made).await? {
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
        self.storage()
            .change_user(&id, |present| -> Result<_, Infallible> {
                is_used = present.is_some_and(|user| !user.deleted);
                Ok(if present.is_some() { Change::Keep } else { Change::Put(tombstone.clone()) })
            })
            .await
            .map_err(StorageError::from)?;
        self.storage().token_delete(hash).await?;
        Ok(!is_used)
    }

    async fn open_links(&self) -> Result<Vec<OpenLink>, LinkError> {
        let found = self.storage().tokens(|token| self.is_open_join(token)).await?;
        let mut links = Vec::with_capacity(found.len());
        for (hash, _) in found {
            // What was found may be old; a link that was used or revoked since is not shown.
            if let Some((token, _)) = self.storage().token(&hash).await?
                && self.is_open_join(&token)
            {
                links.push(self.open_link(&hash, &token));
            }
        }
        links.sort_by_key(|link| std::cmp::Reverse(link.created_ms));
        Ok(links)
    }

    fn is_open_join(&self, token: &Token) -> bool {
        token.kind() == TokenKind::Join && self.is_usable(token)
    }

    async fn revoke(&self, id: &str) -> Result<(), LinkError> {
        let hash = from_hex(id).ok_or(LinkError::Unknown)?;
        let found = self.storage().token(&hash).await?;
        found.filter(|(token, _)| self.is_open_join(token)).ok_or(LinkError::Unknown)?;
        if !self.end_link(&hash).await? {
            return Err(LinkError::Unknown);
        }
        log::info!("join link revoked");
        Ok(())
    }

    fn open_link(&self, hash: &[u8; 32], token: &Token) -> OpenLink {
        let join = token.join.clone().unwrap_or_default();
        let maker = self.storage().read(|tables| {
            let id = UserId::try_from(join.created_by.as_str()).ok()?;
            Some((id, tables.users.get(&id)?.login.clone()))
        });
        OpenLink {
            id: hex(hash),
            maker,
            created_ms: token.created_ms,
            expires_ms: token.expires_ms,
            content: content(token.kind(), join),
        }
    }
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
