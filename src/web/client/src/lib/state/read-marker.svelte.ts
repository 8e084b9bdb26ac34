// What the viewer has read: the marker at the server, and the line above new messages.
import { rooms } from '../api/client';
import type { Chat } from './chat.svelte';
import type { Room } from './room.svelte';
import { millis, type Row } from './rows';

export class ReadMarker {
  /** In the room on screen, messages of others after this time are new; 0: there is no line. */
  newAfter = $state(0);
  #chat: Chat;
  #room: Room | undefined;
  /** Whether the window was visible since the room was entered. */
  #wasSeen = false;
  /** Whether everything in the room on screen has been seen. */
  #isRead = true;
  #isMarking = false;
  #markAgain = false;

  constructor(chat: Chat) {
    this.#chat = chat;
  }

  async enter(room: Room) {
    if (this.#room === room) return;
    this.#room = room;
    this.newAfter = 0;
    this.#isRead = true;
    this.#wasSeen = false;
    await this.#roomSeen();
  }

  /** A hidden window, such as one opened in the background, marks nothing as read. */
  async #roomSeen() {
    const room = this.#room;
    if (document.visibilityState !== 'visible') return;
    this.#wasSeen = true;
    const times = await this.#mark();
    if (times && this.#room === room && times.before && times.before < times.now) this.newAfter = times.before;
  }

  leave(room: Room) {
    if (this.#room === room) this.#room = undefined;
  }

  /** A row by somebody else has come. */
  rowArrived(room: Room, row: Row) {
    if (room !== this.#room || row.kind !== 'message' || !this.#wasSeen) return;
    if (this.#isSeen(room)) {
      void this.#mark();
    } else if (this.#isRead) {
      this.#isRead = false;
      this.newAfter = row.at - 1;
    }
  }

  /** The viewer posted: nothing above is new any more. */
  posted() {
    this.newAfter = 0;
  }

  /** To be called when the newest row or the window may have become visible. */
  viewChanged() {
    const room = this.#room;
    if (!room) return;
    if (!this.#wasSeen) {
      void this.#roomSeen();
    } else if (this.#isSeen(room)) {
      if (room.hasUnread || !this.#isRead) void this.#mark();
      this.#isRead = true;
    }
  }

  /** Whether the line above new messages belongs between a row and the one before it. */
  isFirstNew(row: Row, before: Row | undefined): boolean {
    const isNew = (one: Row | undefined) =>
      one !== undefined && one.kind === 'message' && one.at > this.newAfter && one.actor !== this.#chat.viewerId;
    return this.newAfter > 0 && isNew(row) && (before === undefined || before.at <= this.newAfter);
  }

  #isSeen(room: Room): boolean {
    return document.visibilityState === 'visible' && room.timeline.isFollowing;
  }

  /** Marks everything up to now as read. If that fails, the next visit or row does it. */
  async #mark(): Promise<{ before: number; now: number } | undefined> {
    const room = this.#room;
    if (!room?.isMember) return undefined;
    if (this.#isMarking) {
      this.#markAgain = true;
      return undefined;
    }
    this.#isMarking = true;
    try {
      const response = await rooms.markRoomAsRead({ roomId: room.id });
      return { before: millis(response.previousLastReadAt), now: millis(response.lastReadAt) };
    } catch {
      return undefined;
    } finally {
      this.#isMarking = false;
      if (this.#markAgain) {
        this.#markAgain = false;
        void this.#mark();
      }
    }
  }
}
