// What the viewer has read: the server's marker, and the line above what is new.
import { rooms } from '../api/client';
import type { Chat } from './chat.svelte';
import type { Room } from './room.svelte';
import { millis, type Row } from './rows';

export class ReadMarker {
  /** Rows of others after this time are new in the room on screen; 0: no line. */
  newAfter = $state(0);
  #chat: Chat;
  #room: Room | undefined;
  /** Whether somebody looked at the room since it was entered. */
  #wasSeen = false;
  /** Whether everything in the room on screen was seen. */
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

  /** A window that nobody looks at, such as one opened in the background, reads nothing. */
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

  /** A row of somebody else arrived. */
  rowArrived(room: Room, row: Row) {
    if (room !== this.#room || row.kind !== 'message' || !this.#wasSeen) return;
    if (this.#isSeen(room)) {
      void this.#mark();
    } else if (this.#isRead) {
      this.#isRead = false;
      this.newAfter = row.at - 1;
    }
  }

  /** The viewer posted: what was new is known. */
  posted() {
    this.newAfter = 0;
  }

  /** The newest row, or the window, is looked at again. */
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

  /** The line that separates what is new, given the row and the one before it. */
  isFirstNew(row: Row, before: Row | undefined): boolean {
    const isNew = (one: Row | undefined) =>
      one !== undefined && one.kind === 'message' && one.at > this.newAfter && one.actor !== this.#chat.viewerId;
    return this.newAfter > 0 && isNew(row) && (before === undefined || before.at <= this.newAfter);
  }

  #isSeen(room: Room): boolean {
    return document.visibilityState === 'visible' && room.timeline.isFollowing;
  }

  /** Tells the server that everything up to now is read. Its failure is made good with the next visit or row. */
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
