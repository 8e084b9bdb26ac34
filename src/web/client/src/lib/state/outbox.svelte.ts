// Messages that are being sent. Each has an idempotency key, with which the server stores it only once, and is kept in
// the browser's storage until the server has responded. So neither a lost response nor a reload loses a message or
// sends it twice.
import { messages, rooms } from '../api/client';
import { callErrorOf, type CallError } from '../api/errors';
import { fileOfPending, rowOf, rowOfMessage, type MessageFile, type Row } from './rows';
import type { Chat } from './chat.svelte';
import { keys, read, watch, write } from './storage';

/** The server keeps an idempotency key for two minutes after it stored the message. A bit less is safe. */
const RETRY_WINDOW_MS = 115_000;
/** How far this clock may differ from the server's when a stored message is looked for. */
const CLOCK_SLACK_MS = 5 * 60_000;
const BACKOFF_MS = [500, 1_000, 2_000, 4_000];

export type Phase =
  /** Being sent, or waiting for the connection. */
  | 'sending'
  /** The server rejected it. */
  | 'rejected'
  /** Without a response for so long that a retry might store it twice: the user decides. */
  | 'unconfirmed';

/** A file that is uploaded and not part of a message yet. */
export interface PendingFile {
  id: string;
  name: string;
}

export class Pending {
  phase = $state<Phase>('sending');
  error = $state('');
  /** The row that already shows it, when that came before the response. */
  rowId = $state('');
  isBusy = false;
  attempts = 0;

  constructor(
    readonly key: string,
    readonly roomId: string,
    readonly body: string,
    readonly files: readonly PendingFile[],
    readonly madeAt: number,
    /** When it was first sent; 0 before that. */
    public triedAt: number,
  ) {}

  get shownFiles(): MessageFile[] {
    return this.files.map(fileOfPending);
  }

  get fileIds(): string[] {
    return this.files.map((file) => file.id);
  }

  /** Whether a row may be this message. */
  isLike(row: Row): boolean {
    return row.body === this.body && row.files.map((file) => file.id).join() === this.fileIds.join();
  }
}

interface Stored {
  room: string;
  body: string;
  /** Absent in what earlier versions stored. */
  files?: readonly PendingFile[];
  made: number;
  tried: number;
}

const randomKey = (): string => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
};

export class Outbox {
  all = $state.raw<readonly Pending[]>([]);
  isLive: () => boolean = () => false;
  onSignedOut: () => void = () => {};
  #chat: Chat;
  #user = '';
  #stopWatching = () => {};
  #timers = new Set<ReturnType<typeof setTimeout>>();

  constructor(chat: Chat) {
    this.#chat = chat;
  }

  inRoom(roomId: string): readonly Pending[] {
    return this.all.filter((one) => one.roomId === roomId && one.rowId === '');
  }

  /** Loads what earlier pages of this user could not finish. */
  open(user: string) {
    if (this.#user === user) return;
    this.#user = user;
    this.all = keys(`send:${user}:`)
      .flatMap((name) => this.#load(name))
      .sort((a, b) => a.madeAt - b.madeAt);
    this.#stopWatching();
    this.#stopWatching = watch((name, value) => {
      // Another tab has finished it.
      if (!value && name.startsWith(`send:${user}:`)) this.#remove(name.slice(`send:${user}:`.length));
    });
  }

  close() {
    this.#stopWatching();
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.all = [];
    this.#user = '';
  }

  send(roomId: string, body: string, files: readonly PendingFile[] = []) {
    const entry = new Pending(randomKey(), roomId, body, files, Date.now(), 0);
    this.#save(entry);
    this.all = [...this.all, entry];
    void this.#attempt(entry);
  }

  /** To be called when the connection is back. */
  resume() {
    for (const entry of this.all) {
      entry.attempts = 0;
      if (entry.phase === 'sending') void this.#attempt(entry);
    }
  }

  /** The user decided to send it again: a new message, with a new key. */
  resend(entry: Pending) {
    this.discard(entry);
    this.send(entry.roomId, entry.body, entry.files);
  }

  discard(entry: Pending) {
    write(this.#name(entry.key), '');
    this.#remove(entry.key);
  }

  /** A row by the viewer has come: it may be one of these, ahead of its response. */
  rowArrived(roomId: string, row: Row) {
    const entry = this.all.find(
      (one) => one.roomId === roomId && one.isLike(row) && one.rowId === '' && one.triedAt > 0,
    );
    if (entry) entry.rowId = row.id;
  }

  async #attempt(entry: Pending) {
    // One at a time: two at once could be stored in the wrong order.
    if (entry.isBusy || this.#nextIn(entry.roomId) !== entry) return;
    // `resume` sends it when the connection is back.
    if (!this.isLive()) return;
    if (entry.triedAt && Date.now() - entry.triedAt > RETRY_WINDOW_MS) {
      await this.#checkStored(entry);
      return;
    }
    entry.isBusy = true;
    if (!entry.triedAt) {
      entry.triedAt = Date.now();
      this.#save(entry);
    }
    try {
      const response = await messages.createMessage(
        { roomId: entry.roomId, body: entry.body, attachmentAssetIds: entry.fileIds },
        { headers: { 'Idempotency-Key': entry.key } },
      );
      if (response.message) this.#chat.room(entry.roomId)?.timeline.upsert(rowOfMessage(response.message), '');
      this.discard(entry);
    } catch (error) {
      this.#failed(entry, callErrorOf(error));
    } finally {
      this.#done(entry);
    }
  }

  /** The message of a room that is sent next. */
  #nextIn(roomId: string): Pending | undefined {
    return this.all.find((one) => one.roomId === roomId && one.phase === 'sending');
  }

  #done(entry: Pending) {
    entry.isBusy = false;
    if (this.#nextIn(entry.roomId) !== entry) this.#continue(entry.roomId);
  }

  #continue(roomId: string) {
    const next = this.#nextIn(roomId);
    if (next) void this.#attempt(next);
  }

  #failed(entry: Pending, { kind, text }: CallError) {
    if (kind === 'signed-out') {
      this.onSignedOut();
    } else if (kind === 'transient') {
      const backoff = BACKOFF_MS[Math.min(entry.attempts, BACKOFF_MS.length - 1)] ?? 0;
      entry.attempts += 1;
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        void this.#attempt(entry);
      }, backoff);
      this.#timers.add(timer);
    } else {
      this.#letPersonDecide(entry, 'rejected', text);
    }
  }

  /** The user has to decide. A row that was taken for this message was another one with the same text. */
  #letPersonDecide(entry: Pending, phase: Phase, error = '') {
    entry.phase = phase;
    entry.error = error;
    entry.rowId = '';
  }

  /** There was no response for too long: looks for the message among the newest rows. */
  async #checkStored(entry: Pending) {
    entry.isBusy = true;
    try {
      const { page } = await rooms.getRoomEvents({ roomId: entry.roomId, limit: 100 });
      const rows = (page?.events ?? []).map(rowOf);
      const isThere = rows.some(
        (row) =>
          row?.actor === this.#user && entry.isLike(row) && row.at > entry.madeAt - CLOCK_SLACK_MS,
      );
      if (isThere) this.discard(entry);
      else this.#letPersonDecide(entry, 'unconfirmed');
    } catch (error) {
      this.#failed(entry, callErrorOf(error));
    } finally {
      this.#done(entry);
    }
  }

  #name(key: string): string {
    return `send:${this.#user}:${key}`;
  }

  #save(entry: Pending) {
    const stored: Stored = { room: entry.roomId, body: entry.body, files: entry.files, made: entry.madeAt, tried: entry.triedAt };
    write(this.#name(entry.key), JSON.stringify(stored));
  }

  #load(name: string): Pending[] {
    try {
      const { room, body, files = [], made, tried } = JSON.parse(read(name)) as Stored;
      return [new Pending(name.slice(name.lastIndexOf(':') + 1), room, body, files, made, tried)];
    } catch {
      return [];
    }
  }

  #remove(key: string) {
    const entry = this.all.find((one) => one.key === key);
    if (!entry) return;
    this.all = this.all.filter((one) => one !== entry);
    this.#continue(entry.roomId);
  }
}
