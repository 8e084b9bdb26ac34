//! Join links that nobody has used yet: owners and the operator list and revoke them, and a link counts
//! no longer than its maker's power.
//!
//! A link's id is its token's keyed hash: whoever sees the list can revoke, never use a link.

use super::create_account::is_owner;
use super::error::StoreFault;
use super::{Effect, LinkContent, LinkError, OpenLink, Service, Session, millis};
use crate::crypto::{from_hex, hex};
use crate::domain::UserId;
use crate::limits::LINK_USE_TIME;
use crate::storage::records::{JoinLink, Token, TokenKind};

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
    /// [`LinkError::Denied`]; [`LinkError::Unknown`] when no usable link has this id;
    /// [`LinkError::InUse`] while somebody makes an account with it; [`LinkError::Store`].
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
    /// [`LinkError::Unknown`], [`LinkError::InUse`], [`LinkError::Store`].
    ///
    /// # Cancel safety
    /// As [`Self::revoke_join_link`].
    pub async fn operator_revoke_join_link(&self, id: &str) -> Result<(), LinkError> {
        self.barrier(Effect::Changes).await?;
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

    /// Removes the links of somebody who is no owner any more, so that they do not come back with the role. A kill
    /// before that leaves them unusable as long as the role is gone.
    pub(super) async fn remove_links_of(&self, maker: &UserId) -> Result<(), StoreFault> {
        let made = |token: &Token| {
            token.join.as_ref().is_some_and(|join| join.created_by == maker.as_str())
        };
        for (hash, _) in self.storage().tokens(made).await? {
            self.storage().token_delete(&hash).await?;
        }
        Ok(())
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
        let open = found.filter(|(token, _)| self.is_open_join(token));
        let (token, revision) = open.ok_or(LinkError::Unknown)?;
        // Whoever uses it may store the account at any moment now.
        let used_until = token.used_ms.saturating_add(millis(LINK_USE_TIME));
        if (token.used_ms..used_until).contains(&self.now_ms()) {
            return Err(LinkError::InUse);
        }
        if !self.storage().token_delete_at(&hash, revision).await? {
            return Err(LinkError::InUse);
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
