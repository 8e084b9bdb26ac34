//! `ViewerService`: the user behind the credential.

use crate::contract::rpc::viewer_service::GetViewer;

use super::{CallKind, MethodTable};
use crate::present;

pub(super) fn register(table: &mut MethodTable) {
    table.add(GetViewer, CallKind::Read, |caller, _request| async move {
        let viewer = caller.state.service.users().viewer(caller.session()?).await?;
        Ok(present::viewer(&caller.origin(), viewer))
    });
}
