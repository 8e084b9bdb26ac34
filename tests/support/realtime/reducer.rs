//! Applies operations as a client does, and fails where a client would close the socket or show
//! something wrong.

use std::collections::BTreeSet;

use super::check::{self, Phase};
use super::state::{Room, Row, State, Timeline};
use super::{Operation, api, wire};

/// What the reducer knows about the connection.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) phase: Phase,
    /// Rooms this connection holds.
    pub(super) held: BTreeSet<String>,
    /// No event has arrived on this connection yet: only here may a reset come.
    pub(super) is_first: bool,
}

impl State {
    /// Applies a whole event.
    pub(super) fn apply(&mut self, event: &wire::RealtimeProjectionEvent, link: &Link) {
        check::envelope(event, link.phase, self);
        for (place, operation) in event.operations.iter().enumerate() {
            let operation = operation.operation.as_ref().expect("an operation of a known kind");
            if matches!(operation, Operation::Reset(_)) {
                assert!(link.is_first && place == 0, "a reset comes first or not at all");
                *self = Self { begun: true, ..Self::default() };
                continue;
            }
            assert!(self.begun, "nothing comes before the reset");
            self.change(operation, link);
        }
    }

    fn change(&mut self, operation: &Operation, link: &Link) {
        match operation {
            Operation::Reset(_) => {}
            Operation::ServerUpsert(profile) => {
                assert!(!profile.name.is_empty() && profile.version.starts_with("0.5."));
                self.server = Some(profile.clone());
            }
            Operation::ServerStateUpsert(state) => {
                self.motd.clone_from(&state.motd);
                self.runtime = Some(state.runtime.clone().expect("the limits"));
            }
            Operation::ViewerUpsert(viewer) => self.viewer_upsert(viewer),
            Operation::UserUpsert(member) => self.user_upsert(member),
            Operation::UserRemove(remove) => self.user_remove(remove),
            Operation::RoomUpsert(upsert) => self.room_upsert(upsert, link),
            Operation::RoomViewerStateReplace(replace) => {
                check::viewer_state(replace.viewer_state.as_ref());
                let room = self.rooms.get_mut(&replace.room_id).expect("the state of a known room");
                room.viewer = replace.viewer_state.clone().unwrap();
                self.wipe_unless_member(&replace.room_id);
            }
            Operation::RoomRemove(remove) => {
                self.rooms.remove(&remove.room_id);
                self.room_order.retain(|id| *id != remove.room_id);
                self.wipe(&remove.room_id);
            }
            Operation::RoomActivity(activity) => {
                let room = self.rooms.get_mut(&activity.room_id).expect("activity of a known room");
                assert!(room.viewer.is_member, "activity of a joined room");
                room.has_history = true;
            }
            Operation::RoomGroupsReplace(replace) => {
                for group in &replace.groups {
                    assert!(!group.id.is_empty() && !group.name.is_empty(), "{group:?}");
                    for item in &group.items {
                        assert!(item.item.is_some(), "an item of a known kind: {group:?}");
                    }
                }
                self.groups.clone_from(&replace.groups);
            }
            Operation::RoomTimelineReplace(replace) => self.timeline_replace(replace, link),
            Operation::RoomTimelineEventUpsert(upsert) => self.row_upsert(upsert, link),
            Operation::RoomTimelineEventRemove(remove) => {
                let timeline = self.loaded(&remove.room_id, link);
                timeline.rows.retain(|row| row.event.id != remove.event_id);
                timeline.removed.insert(remove.event_id.clone());
            }
            Operation::PresencesReplace(replace) => self.presences_replace(replace),
            Operation::ThreadViewerStatesReplace(replace) => {
                if link.phase == Phase::CatchingUp {
                    self.threads.clear();
                }
                for state in &replace.states {
                    let key = (state.room_id.clone(), state.thread_root_event_id.clone());
                    self.threads.insert(key, state.viewer_state.expect("a thread's state"));
                }
            }
            Operation::NotificationOccurrencesReplace(replace) => {
                let list = replace.occurrences.clone().expect("a list of notifications");
                assert!(list.page.is_some(), "totals: {list:?}");
                self.notifications = Some(list);
            }
            Operation::ActiveCallsReplace(replace) => self.calls = Some(replace.calls.clone()),
        }
    }

    fn user_upsert(&mut self, member: &api::DirectoryMember) {
        let user = member.user.as_ref().expect("a user_upsert has a user");
        assert!(!user.id.is_empty() && !user.login.is_empty() && !user.deleted);
        assert!(!user.display_name.is_empty() && member.created_at.is_some());
        let in_everyone = member.roles.iter().any(|role| role == "everyone");
        assert_eq!(in_everyone, !user.is_bot, "{member:?}");
        self.users.insert(user.id.clone(), member.clone());
    }

    fn user_remove(&mut self, remove: &wire::RealtimeProjectionUserRemove) {
        assert!(self.users.remove(&remove.user_id).is_some(), "{remove:?}");
        self.presences.remove(&remove.user_id);
        for room in self.rooms.values_mut() {
            room.members.remove(&remove.user_id);
        }
    }

    fn presences_replace(&mut self, replace: &wire::RealtimeProjectionPresencesReplace) {
        let named: BTreeSet<_> = replace.statuses.keys().collect();
        let all: BTreeSet<_> = self.users.keys().collect();
        assert_eq!(named, all, "presences_replace names every user");
        let statuses = replace.statuses.iter();
        self.presences =
            statuses.map(|(id, status)| (id.clone(), check::status(*status))).collect();
    }

    fn viewer_upsert(&mut self, viewer: &api::GetViewerResponse) {
        let profile = viewer.user.as_ref().and_then(|user| user.profile.as_ref());
        let profile = profile.expect("a viewer_upsert has a profile");
        assert!(!profile.id.is_empty() && viewer.capabilities.is_some(), "{viewer:?}");
        assert!(viewer.viewer_permissions.is_some() && viewer.viewer_state.is_some());
        if self.viewer.is_some() {
            assert_eq!(profile.id, self.viewer_id(), "the viewer stays the same");
        }
        self.viewer = Some(viewer.clone());
    }

    fn room_upsert(&mut self, upsert: &wire::RealtimeProjectionRoom, link: &Link) {
        let id = upsert.room.as_ref().and_then(|room| room.room.as_ref()).map(|room| &room.id);
        let held = id.is_some_and(|id| link.held.contains(id));
        check::room(upsert, self, held);
        let with_state = upsert.room.as_ref().unwrap();
        let room = with_state.room.clone().unwrap();
        let id = room.id.clone();
        if !self.room_order.contains(&id) {
            self.room_order.push(id.clone());
        }
        let had_history = self.rooms.get(&id).is_some_and(|room| room.has_history);
        let kept = Room {
            room,
            viewer: with_state.viewer_state.clone().unwrap(),
            members: upsert.member_user_ids.iter().cloned().collect(),
            has_history: had_history || upsert.has_message_history == Some(true),
        };
        self.rooms.insert(id.clone(), kept);
        self.wipe_unless_member(&id);
    }

    fn timeline_replace(
        &mut self,
        replace: &wire::RealtimeProjectionRoomTimelineReplace,
        link: &Link,
    ) {
        let id = &replace.room_id;
        assert!(link.held.contains(id), "rows of {id} are not held on this connection");
        check::page(replace, self);
        let page = replace.page.as_ref().unwrap();
        if !self.is_member(id) {
            assert!(page.events.is_empty(), "rows of {id} before its is_member:true");
            self.wipe(id);
            return;
        }
        let rows = page.events.iter().map(|event| Row {
            event: event.clone(),
            cursor: replace.event_cursors[&event.id].clone(),
        });
        let timeline =
            Timeline { rows: rows.collect(), has_older: page.has_older, ..Timeline::default() };
        self.timelines.insert(id.clone(), timeline);
    }

    fn row_upsert(
        &mut self,
        upsert: &wire::RealtimeProjectionRoomTimelineEventUpsert,
        link: &Link,
    ) {
        let event = upsert.event.as_ref().expect("a row");
        let none = api::RoomTimelineIncludes::default();
        check::row(event, &upsert.room_id, upsert.includes.as_ref().unwrap_or(&none), self);
        assert!(!upsert.event_cursor.is_empty(), "a row has a cursor: {upsert:?}");
        let timeline = self.loaded(&upsert.room_id, link);
        assert!(!timeline.removed.contains(&event.id), "{} was removed for good", event.id);
        let message = super::state::message(event);
        if message.is_some_and(|message| !message.thread_root_event_id.is_empty()) {
            timeline.replies.insert(event.id.clone(), event.clone());
            return;
        }
        let row = Row { event: event.clone(), cursor: upsert.event_cursor.clone() };
        if let Some(present) = timeline.rows.iter_mut().find(|row| row.event.id == event.id) {
            assert_eq!(check::time(&present.event), check::time(event), "a row keeps its time");
            let was_deleted = super::state::message(&present.event)
                .is_some_and(|message| message.deleted_at.is_some());
            let is_deleted = message.is_some_and(|message| message.deleted_at.is_some());
            assert!(is_deleted || !was_deleted, "deletion is final: {event:?}");
            *present = row;
            return;
        }
        let at = check::time(event);
        let is_before = timeline.rows.first().is_some_and(|first| at < check::time(&first.event));
        if is_before && timeline.has_older {
            // A change of a row that is not loaded.
            return;
        }
        let newest = timeline.rows.last().map(|row| check::time(&row.event));
        assert!(newest.is_none_or(|newest| newest <= at), "a new row is older than the newest");
        timeline.rows.push(row);
    }

    /// The window of a held, joined and loaded room: rows may come for no other room.
    fn loaded(&mut self, room: &str, link: &Link) -> &mut Timeline {
        assert!(link.held.contains(room), "rows of {room} are not held on this connection");
        assert!(self.is_member(room), "rows of {room}, where the viewer is no member");
        self.timelines.get_mut(room).unwrap_or_else(|| panic!("rows of {room} before its window"))
    }

    fn wipe_unless_member(&mut self, room: &str) {
        if !self.is_member(room) {
            self.wipe(room);
        }
    }

    fn wipe(&mut self, room: &str) {
        self.timelines.remove(room);
        self.threads.retain(|(of, _), _| of != room);
        if let Some(room) = self.rooms.get_mut(room) {
            room.members.clear();
        }
    }
}

/// The reducer without a connection, for its own tests.
pub(crate) struct Script {
    state: State,
    link: Link,
}

impl Script {
    /// A new client whose connection holds these rooms.
    pub(crate) fn holding(rooms: &[&str]) -> Self {
        let held = rooms.iter().map(|room| (*room).to_owned()).collect();
        let link = Link { phase: Phase::CatchingUp, held, is_first: true };
        Self { state: State::default(), link }
    }

    /// Applies one event of the catch-up; the connection is live from then on.
    pub(crate) fn load(&mut self, operations: Vec<Operation>) {
        self.state.apply(&event("x", None, operations), &self.link);
        self.link.phase = Phase::Live;
        self.link.is_first = false;
    }

    /// Applies a live event.
    pub(crate) fn apply_live(&mut self, id: &str, actor: Option<&str>, operations: Vec<Operation>) {
        self.state.apply(&event(id, actor, operations), &self.link);
    }
}

fn event(
    id: &str,
    actor: Option<&str>,
    operations: Vec<Operation>,
) -> wire::RealtimeProjectionEvent {
    let wrap = |operation| wire::RealtimeProjectionOperation { operation: Some(operation) };
    wire::RealtimeProjectionEvent {
        id: id.to_owned(),
        created_at: Some(prost_types::Timestamp::default()),
        actor_id: actor.map(str::to_owned),
        resume_cursor: None,
        operations: operations.into_iter().map(wrap).collect(),
    }
}
