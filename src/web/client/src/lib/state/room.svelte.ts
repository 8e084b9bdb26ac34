// One room as the viewer sees it.
import { RoomKind, type RoomViewerState } from '../api/gen/chatto/api/v1/rooms_pb';
import type { RealtimeProjectionRoom } from '../api/gen/chatto/realtime/v1/projection_pb';
import type { People } from './people.svelte';
import { millis } from './rows';
import { Timeline } from './timeline.svelte';
import { Typists } from './typing.svelte';

export class Room {
  name = $state('');
  description = $state('');
  groupId = $state('');
  isUniversal = $state(false);
  isDirect = $state(false);
  hasHistory = $state(true);
  isMember = $state(false);
  hasUnread = $state(false);
  slowUntil = $state(0);
  slowSeconds = $state(0);
  members = $state.raw<readonly string[]>([]);
  #grants = $state.raw<ReadonlySet<string>>(new Set());
  readonly timeline: Timeline;
  readonly typists = new Typists();

  constructor(
    readonly id: string,
    people: People,
  ) {
    this.timeline = new Timeline(id, people);
  }

  may(permission: string): boolean {
    return this.#grants.has(permission);
  }

  set(upsert: RealtimeProjectionRoom) {
    const room = upsert.room?.room;
    if (!room) return;
    this.name = room.name;
    this.description = room.description;
    this.groupId = room.groupId;
    this.isUniversal = room.universal;
    this.isDirect = room.kind === RoomKind.DM;
    this.slowSeconds = room.slowModeSeconds;
    if (upsert.hasMessageHistory !== undefined) this.hasHistory = upsert.hasMessageHistory;
    this.members = upsert.memberUserIds;
    this.setViewerState(upsert.room?.viewerState);
  }

  setViewerState(state: RoomViewerState | undefined) {
    if (!state) return;
    this.hasUnread = state.hasUnread;
    this.slowUntil = millis(state.slowModeNextPostAt);
    this.#grants = new Set(state.permissions.filter((one) => one.granted).map((one) => one.permission));
    if (this.isMember && !state.isMember) this.timeline.clear();
    this.isMember = state.isMember;
  }
}
