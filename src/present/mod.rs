//! Maps views of the service to messages of the contract, for responses and for realtime sockets.

mod assets;
pub mod operations;

pub use assets::{asset, attachment, completed, room_file, upload};

use crate::contract::{SERVER_VERSION, Timestamp, api};
use crate::domain::TimeFormat;
use crate::service as view;

/// What the addresses in messages for one viewer are made of.
#[derive(Clone, Copy)]
pub struct Addresses<'a> {
    /// Of images that everybody may see.
    pub origin: &'a str,
    /// Of files.
    pub tickets: view::Tickets<'a>,
}

/// Milliseconds since 1970 as a timestamp of the contract.
#[must_use]
pub fn time(ms: i64) -> Timestamp {
    let nanos = i32::try_from(ms.rem_euclid(1000)).unwrap_or_default().saturating_mul(1_000_000);
    Timestamp { seconds: ms.div_euclid(1000), nanos }
}

/// The URL of a public image. It is absolute, because clients of other servers show it too.
#[must_use]
pub fn image(origin: &str, key: &str) -> String {
    format!("{origin}/assets/server/{key}")
}

/// Permission rows.
#[must_use]
pub fn permissions(grants: view::Grants) -> Vec<api::PermissionGrant> {
    let row = |(name, granted): (&str, bool)| api::PermissionGrant {
        permission: name.to_owned(),
        granted,
    };
    grants.into_iter().map(row).collect()
}

/// A user.
#[must_use]
pub fn user(origin: &str, user: view::UserView) -> api::User {
    api::User {
        id: user.id.as_str().to_owned(),
        login: user.login,
        display_name: user.display_name,
        deleted: user.deleted,
        avatar_url: user.avatar_key.map(|key| image(origin, &key)),
        presence_status: presence(user.presence).into(),
        custom_status: user.custom_status.map(|status| api::CustomUserStatus {
            emoji: status.emoji,
            text: status.text,
            expires_at: status.expires_ms.map(time),
        }),
        is_bot: user.is_bot,
    }
}

/// A user in the directory.
#[must_use]
pub fn member(origin: &str, member: view::DirectoryMember) -> api::DirectoryMember {
    api::DirectoryMember {
        user: Some(user(origin, member.user)),
        roles: member.roles,
        created_at: Some(time(member.created_ms)),
    }
}

/// The requested page. Value rules have rejected negative numbers.
#[must_use]
pub fn page_request(page: Option<api::PageRequest>) -> view::PageRequest {
    let page = page.unwrap_or_default();
    view::PageRequest {
        limit: usize::try_from(page.limit).unwrap_or_default(),
        offset: usize::try_from(page.offset).unwrap_or_default(),
    }
}

/// The total and whether there is more, of a list with offsets.
#[must_use]
pub fn page_info<T>(page: &view::Page<T>) -> api::PageInfo {
    api::PageInfo {
        total_count: i64::try_from(page.total).unwrap_or(i64::MAX),
        has_more: page.has_more,
    }
}

fn time_format(format: TimeFormat) -> api::TimeFormat {
    match format {
        TimeFormat::Auto => api::TimeFormat::Auto,
        TimeFormat::TwelveHour => api::TimeFormat::TimeFormat12Hour,
        TimeFormat::TwentyFourHour => api::TimeFormat::TimeFormat24Hour,
    }
}

/// The viewer.
#[must_use]
pub fn viewer(origin: &str, viewer: view::ViewerView) -> api::GetViewerResponse {
    let capability = |(name, granted): (&str, bool)| api::CapabilityGrant {
        capability: name.to_owned(),
        granted,
    };
    api::GetViewerResponse {
        user: Some(api::ViewerUser {
            has_verified_email: viewer.has_verified_email,
            settings: Some(api::UserSettings {
                timezone: viewer.timezone,
                time_format: time_format(viewer.time_format).into(),
            }),
            viewer_can_delete_account: viewer.can_delete_account,
            last_login_change: viewer.last_login_change_ms.map(time),
            profile: Some(user(origin, viewer.profile)),
            has_password: viewer.has_password,
        }),
        capabilities: Some(api::ViewerCapabilities {
            grants: viewer.capabilities.into_iter().map(capability).collect(),
            has_unread_followed_threads: viewer.has_unread_followed_threads,
        }),
        viewer_permissions: Some(api::ServerViewerPermissions {
            permissions: permissions(viewer.permissions),
        }),
        viewer_state: Some(api::ServerViewerState { has_unread_rooms: viewer.has_unread_rooms }),
    }
}

/// A room.
#[must_use]
pub fn room(room: view::RoomView) -> api::Room {
    let kind = match room.kind {
        view::RoomKind::Channel => api::RoomKind::Channel,
        view::RoomKind::Direct => api::RoomKind::Dm,
    };
    api::Room {
        id: room.id.as_str().to_owned(),
        kind: kind.into(),
        name: room.name,
        description: room.description,
        archived: room.archived,
        group_id: room.group.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        universal: room.universal,
        slow_mode_seconds: room.slow_mode_seconds,
    }
}

/// A room with the viewer's state in it.
#[must_use]
pub fn room_with_state(with: view::RoomWithState) -> api::RoomWithViewerState {
    api::RoomWithViewerState {
        room: Some(room(with.room)),
        viewer_state: Some(room_state(with.state)),
    }
}

/// A viewer's state in a room.
#[must_use]
pub fn room_state(state: view::RoomViewerState) -> api::RoomViewerState {
    api::RoomViewerState {
        is_member: state.is_member,
        has_unread: state.has_unread,
        permissions: permissions(state.permissions),
        slow_mode_next_post_at: state.slow_mode_next_post_ms.map(time),
    }
}

/// A group with what the viewer sees of it.
#[must_use]
pub fn group(group: view::GroupView) -> api::RoomGroup {
    use api::room_group_item::Item;
    let item = |room| api::RoomGroupItem { item: Some(Item::Room(room_with_state(room))) };
    api::RoomGroup {
        id: group.id.as_str().to_owned(),
        name: group.name,
        description: group.description,
        items: group.rooms.into_iter().map(item).collect(),
        viewer_state: Some(api::RoomGroupViewerState {
            permissions: permissions(group.permissions),
        }),
    }
}

/// A role.
#[must_use]
pub fn role(role: view::RoleView) -> api::Role {
    api::Role {
        name: role.name,
        display_name: role.display_name,
        description: role.description,
        is_system: role.is_system,
        position: role.position,
        pingable: role.pingable,
    }
}

/// A message.
#[must_use]
pub fn message(tickets: view::Tickets<'_>, message: view::MessageView) -> api::Message {
    let attachment = |file| attachment(tickets, file);
    api::Message {
        attachments: message.attachments.iter().map(attachment).collect(),
        id: message.id.as_str().to_owned(),
        room_id: message.room.as_str().to_owned(),
        created_at: Some(time(message.created_ms)),
        actor_id: message.author.as_str().to_owned(),
        body: message.body,
        updated_at: message.updated_ms.map(time),
        in_reply_to: message.in_reply_to.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        thread_root_event_id: message
            .thread_root
            .map(|id| id.as_str().to_owned())
            .unwrap_or_default(),
        deleted_at: message.deleted_ms.map(time),
        ..api::Message::default()
    }
}

/// One entry of a timeline.
#[must_use]
pub fn row(
    tickets: view::Tickets<'_>,
    room_id: &str,
    row: view::RowView,
) -> api::RoomTimelineEvent {
    use api::room_timeline_event::Event;
    use view::RowViewKind;
    let of_room = || api::RoomTimelineRoomEvent { room_id: room_id.to_owned() };
    let of_call = |call_id| api::RoomTimelineCallEvent { room_id: room_id.to_owned(), call_id };
    let event = match row.kind {
        RowViewKind::Message(posted) => Event::MessagePosted(api::RoomMessagePosted {
            message: Some(message(tickets, *posted)),
        }),
        RowViewKind::RoomCreated => Event::RoomCreated(of_room()),
        RowViewKind::Joined => Event::UserJoinedRoom(of_room()),
        RowViewKind::Left => Event::UserLeftRoom(of_room()),
        RowViewKind::RoomUpdated => Event::RoomUpdated(of_room()),
        RowViewKind::RoomArchived => Event::RoomArchived(of_room()),
        RowViewKind::RoomUnarchived => Event::RoomUnarchived(of_room()),
        RowViewKind::CallStarted { call_id } => Event::CallStarted(of_call(call_id)),
        RowViewKind::CallEnded { call_id } => Event::CallEnded(of_call(call_id)),
    };
    api::RoomTimelineEvent {
        id: row.id.as_str().to_owned(),
        created_at: Some(time(row.created_ms)),
        actor_id: row.actor.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        event: Some(event),
    }
}

/// A stretch of a timeline.
#[must_use]
pub fn timeline(
    addresses: Addresses<'_>,
    room_id: &str,
    page: view::TimelinePage,
) -> api::RoomTimelinePage {
    api::RoomTimelinePage {
        events: page.rows.into_iter().map(|one| row(addresses.tickets, room_id, one)).collect(),
        start_cursor: page.start_cursor,
        end_cursor: page.end_cursor,
        has_older: page.has_older,
        has_newer: page.has_newer,
        includes: Some(includes(addresses.origin, page.users)),
    }
}

/// The users that rows name.
#[must_use]
pub fn includes(origin: &str, users: Vec<view::UserView>) -> api::RoomTimelineIncludes {
    let include = |one: view::UserView| (one.id.as_str().to_owned(), user(origin, one));
    api::RoomTimelineIncludes { users: users.into_iter().map(include).collect() }
}

/// The server's public profile.
#[must_use]
pub fn profile(origin: &str, server: &view::ServerView) -> api::ServerPublicProfile {
    let image = |key: &Option<String>| key.as_ref().map(|key| image(origin, key));
    api::ServerPublicProfile {
        name: server.name.clone(),
        version: SERVER_VERSION.to_owned(),
        logo_url: image(&server.logo_key),
        banner_url: image(&server.banner_key),
        welcome_message: server.welcome_message.clone(),
        description: server.description.clone(),
    }
}

/// The server's limits.
#[must_use]
pub fn runtime(runtime: &view::RuntimeView) -> api::ServerRuntimeConfig {
    let upload = i64::try_from(runtime.max_upload_bytes).unwrap_or(i64::MAX);
    let window = i32::try_from(runtime.message_edit_window_seconds).unwrap_or(i32::MAX);
    api::ServerRuntimeConfig {
        max_upload_size: upload,
        max_video_upload_size: upload,
        message_edit_window_seconds: window,
        ..api::ServerRuntimeConfig::default()
    }
}

/// A presence.
#[must_use]
pub fn presence(presence: view::Presence) -> api::PresenceStatus {
    match presence {
        view::Presence::Online => api::PresenceStatus::Online,
        view::Presence::Away => api::PresenceStatus::Away,
        view::Presence::DoNotDisturb => api::PresenceStatus::DoNotDisturb,
        view::Presence::Offline => api::PresenceStatus::Offline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_odd_milliseconds_are_kept() {
        assert_eq!(time(1_500), Timestamp { seconds: 1, nanos: 500_000_000 });
        assert_eq!(time(-1), Timestamp { seconds: -1, nanos: 999_000_000 });
    }
}
