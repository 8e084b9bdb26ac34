// The one store of server state. Only realtime frames write it; screens read it, and calls never write it.
import type { RoomGroup } from '../api/gen/chatto/api/v1/room_groups_pb';
import type { GetViewerResponse } from '../api/gen/chatto/api/v1/viewer_pb';
import type { RealtimeProjectionEvent, RealtimeProjectionOperation } from '../api/gen/chatto/realtime/v1/projection_pb';
import type { RealtimeEventEnvelope } from '../api/gen/chatto/realtime/v1/server_frames_pb';
import { imagePath } from '../api/images';
import { People } from './people.svelte';
import { Room } from './room.svelte';
import { rowOf, type Row } from './rows';

export interface Group {
  id: string;
  name: string;
  mayCreate: boolean;
  roomIds: readonly string[];
}

/** A new row that came over the realtime connection. */
export interface Arrival {
  room: Room;
  row: Row;
}

type Operation = RealtimeProjectionOperation['operation'];

export class Chat {
  readonly people = new People();
  serverName = $state('Chatto');
  /** `''` for a server without a logo. */
  logoUrl = $state('');
  /** `''` for a server without a banner. */
  bannerUrl = $state('');
  viewerId = $state('');
  /** The largest file that the server accepts; 0 while that is not known. */
  maxUploadBytes = 0;
  rooms = $state.raw<ReadonlyMap<string, Room>>(new Map());
  groups = $state.raw<readonly Group[]>([]);
  /** Whether the first load has finished. */
  isLoaded = $state(false);
  /** Rooms received since a `reset`. All others are removed when the load is complete. */
  #namedRooms: Set<string> | undefined;
  onArrival: (arrival: Arrival) => void = () => {};

  get viewer() {
    return this.people.get(this.viewerId);
  }

  get isOwner(): boolean {
    return this.viewer.roles.includes('owner');
  }

  room(id: string): Room | undefined {
    return this.rooms.get(id);
  }

  /** A direct conversation has no name of its own: its title lists the other members. */
  titleOf(room: Room): string {
    if (!room.isDirect) return room.name;
    const others = room.members.filter((id) => id !== this.viewerId).map((id) => this.people.get(id).name);
    return others.join(', ') || 'Notes to yourself';
  }

  /** The groups in their order, each with its wanted rooms; groups without any are left out. */
  groupsWith(isWanted: (room: Room) => boolean): (Group & { rooms: Room[] })[] {
    const roomsOf = (group: Group) =>
      group.roomIds.map((id) => this.room(id)).filter((room): room is Room => room !== undefined && isWanted(room));
    return this.groups.map((group) => ({ ...group, rooms: roomsOf(group) })).filter(({ rooms }) => rooms.length > 0);
  }

  /** Ends a load: everything up to the present has been applied. */
  complete() {
    const named = this.#namedRooms;
    this.#namedRooms = undefined;
    if (named) this.rooms = new Map([...this.rooms].filter(([id]) => named.has(id)));
    this.isLoaded = true;
  }

  apply(event: RealtimeProjectionEvent) {
    for (const { operation } of event.operations) this.#apply(operation, event);
  }

  applyEphemeral({ actorId, event }: RealtimeEventEnvelope) {
    if (event.case === 'userTyping') {
      if (actorId && actorId !== this.viewerId && !event.value.threadRootEventId) {
        this.room(event.value.roomId)?.typists.add(actorId);
      }
    } else if (event.case === 'presenceChanged') {
      this.people.setPresence(event.value.userId, event.value.status);
    }
  }

  #apply(operation: Operation, event: RealtimeProjectionEvent) {
    switch (operation.case) {
      case 'reset':
        this.#namedRooms = new Set();
        break;
      case 'serverUpsert':
        this.serverName = operation.value.name;
        this.logoUrl = imagePath(operation.value.logoUrl);
        this.bannerUrl = imagePath(operation.value.bannerUrl);
        break;
      case 'serverStateUpsert':
        this.maxUploadBytes = Number(operation.value.runtime?.maxUploadSize ?? this.maxUploadBytes);
        break;
      case 'viewerUpsert':
        this.#setViewer(operation.value);
        break;
      case 'userUpsert':
        if (operation.value.user) this.people.upsert(operation.value.user, operation.value.roles);
        break;
      case 'userRemove':
        this.people.remove(operation.value.userId);
        break;
      case 'roomUpsert': {
        const id = operation.value.room?.room?.id;
        if (id) this.#ensure(id).set(operation.value);
        break;
      }
      case 'roomRemove':
        this.rooms = new Map([...this.rooms].filter(([id]) => id !== operation.value.roomId));
        break;
      case 'roomViewerStateReplace':
        this.room(operation.value.roomId)?.setViewerState(operation.value.viewerState);
        break;
      case 'roomGroupsReplace':
        this.groups = operation.value.groups.map(groupOf);
        break;
      case 'roomTimelineReplace': {
        const { roomId, page, eventCursors } = operation.value;
        const room = this.room(roomId);
        if (room?.isMember && page) room.timeline.replace(page, eventCursors);
        break;
      }
      case 'roomTimelineEventUpsert':
        this.#upsertRow(operation.value, event.actorId ?? '');
        break;
      case 'roomTimelineEventRemove':
        this.room(operation.value.roomId)?.timeline.remove(operation.value.eventId);
        break;
      case 'roomActivity': {
        const room = this.room(operation.value.roomId);
        if (room?.isDirect) this.#moveToTop(room);
        break;
      }
      case 'presencesReplace':
        for (const [id, status] of Object.entries(operation.value.statuses)) this.people.setPresence(id, status);
        break;
      default:
      // No screen shows notifications, threads or calls yet.
    }
  }

  #upsertRow({ roomId, event, includes, eventCursor, retainDeletedRow }: RowUpsert, actor: string) {
    const room = this.room(roomId);
    const message = event?.event.case === 'messagePosted' ? event.event.value.message : undefined;
    if (message?.deletedAt && message.echoOfEventId && !retainDeletedRow) {
      room?.timeline.remove(message.id);
      return;
    }
    const row = event && rowOf(event);
    if (!room?.isMember || !row) return;
    this.people.include(includes?.users);
    room.typists.remove(actor);
    const isNew = !room.timeline.rows.some((one) => one.id === row.id);
    room.timeline.upsert(row, eventCursor);
    if (isNew) this.onArrival({ room, row });
  }

  #setViewer(viewer: GetViewerResponse) {
    const profile = viewer.user?.profile;
    if (!profile) return;
    this.viewerId = profile.id;
    this.people.get(profile.id).set(profile);
  }

  #ensure(id: string): Room {
    this.#namedRooms?.add(id);
    let room = this.rooms.get(id);
    if (!room) {
      room = new Room(id, this.people);
      this.rooms = new Map(this.rooms).set(id, room);
    }
    return room;
  }

  #moveToTop(room: Room) {
    room.hasHistory = true;
    this.rooms = new Map([[room.id, room], ...this.rooms]);
  }
}

type RowUpsert = Extract<Operation, { case: 'roomTimelineEventUpsert' }>['value'];

const groupOf = (group: RoomGroup): Group => ({
  id: group.id,
  name: group.name,
  mayCreate: group.viewerState?.permissions.some((one) => one.permission === 'room.create' && one.granted) ?? false,
  roomIds: group.items.flatMap(({ item }) => (item.case === 'room' && item.value.room ? [item.value.room.id] : [])),
});
