// The unsent text of each room, kept across reloads and shared with other tabs.
import { keys, read, watch, write } from './storage';

export class Drafts {
  #user = '';
  #texts = new Map<string, string>();
  /** Rooms with a draft, for the room list. */
  rooms = $state.raw<ReadonlySet<string>>(new Set());
  #stopWatching = () => {};
  onOtherTab: (roomId: string, text: string) => void = () => {};
  /** Called before the drafts are closed: what was typed last may not be stored yet. */
  onClosing: () => void = () => {};

  open(user: string) {
    if (this.#user === user) return;
    this.#user = user;
    this.#texts = new Map(keys(`draft:${user}:`).map((key) => [this.#roomOf(key), read(key)]));
    this.#updateRooms();
    this.#stopWatching();
    this.#stopWatching = watch((key, text) => {
      if (!key.startsWith(`draft:${user}:`)) return;
      this.#store(this.#roomOf(key), text);
      this.onOtherTab(this.#roomOf(key), text);
    });
  }

  close() {
    this.onClosing();
    this.#stopWatching();
    this.#texts.clear();
    this.#updateRooms();
    this.#user = '';
  }

  /** Closes after a log-out: what was typed last is not stored. */
  discard() {
    this.#user = '';
    this.close();
  }

  get(roomId: string): string {
    return this.#texts.get(roomId) ?? '';
  }

  set(roomId: string, text: string) {
    if (!this.#user || this.get(roomId) === text) return;
    this.#store(roomId, text);
    write(`draft:${this.#user}:${roomId}`, text);
  }

  #store(roomId: string, text: string) {
    const had = this.#texts.has(roomId);
    if (text) this.#texts.set(roomId, text);
    else this.#texts.delete(roomId);
    if (had !== this.#texts.has(roomId)) this.#updateRooms();
  }

  #roomOf(key: string): string {
    return key.slice(key.lastIndexOf(':') + 1);
  }

  #updateRooms() {
    this.rooms = new Set(this.#texts.keys());
  }
}
