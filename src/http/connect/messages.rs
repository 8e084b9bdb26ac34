//! `MessageService`: posting and reading single messages.

use crate::contract::api;
use crate::contract::rpc::message_service::{
    BatchGetMessages, CreateMessage, DeleteAttachment, DeleteMessage, GetMessage,
};

use crate::service::NewMessage;

use super::{CallKind, MethodTable};
use crate::present;

pub(super) fn register(table: &mut MethodTable) {
    table.add(CreateMessage, CallKind::Write, |caller, request| async move {
        let new = NewMessage {
            room: &request.room_id,
            body: &request.body,
            attachments: &request.attachment_asset_ids,
            thread_root: &request.thread_root_event_id,
            in_reply_to: &request.in_reply_to,
            also_send_to_channel: request.also_send_to_channel,
            create_thread: request.create_thread,
            idempotency_key: caller.idempotency_key.as_ref(),
        };
        let message = caller.state.service.messages().post(caller.session()?, new).await?;
        let message = present::message(caller.tickets()?, message);
        Ok(api::CreateMessageResponse { message: Some(message) })
    });
    table.add(DeleteMessage, CallKind::Write, |caller, request| async move {
        let (session, deletions) = (caller.session()?, caller.state.service.deletions());
        deletions.message(session, &request.room_id, &request.event_id).await?;
        Ok(api::DeleteMessageResponse { deleted: true })
    });
    table.add(DeleteAttachment, CallKind::Write, |caller, request| async move {
        let (session, deletions) = (caller.session()?, caller.state.service.deletions());
        let (room, message) = (&request.room_id, &request.event_id);
        deletions.attachment(session, room, message, &request.attachment_id).await?;
        Ok(api::DeleteAttachmentResponse { deleted: true })
    });
    table.add(GetMessage, CallKind::Read, |caller, request| async move {
        let session = caller.session()?;
        let service = &caller.state.service;
        let message =
            service.timeline().message(session, &request.room_id, &request.event_id).await?;
        let message = present::message(caller.tickets()?, message);
        Ok(api::GetMessageResponse { message: Some(message) })
    });
    table.add(BatchGetMessages, CallKind::Read, |caller, request| async move {
        let (session, service) = (caller.session()?, &caller.state.service);
        let (room, ids) = (&request.room_id, &request.event_ids);
        let messages = service.timeline().messages(session, room, ids).await?;
        let tickets = caller.tickets()?;
        let message = |message| present::message(tickets, message);
        Ok(api::BatchGetMessagesResponse { messages: messages.into_iter().map(message).collect() })
    });
}
