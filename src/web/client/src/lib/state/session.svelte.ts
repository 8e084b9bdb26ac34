// Who is logged in, and everything that lives as long as the session.
import * as auth from '../api/auth';
import { account } from '../api/client';
import { PresenceStatus } from '../api/gen/chatto/api/v1/users_pb';
import { Chat } from './chat.svelte';
import { Connection } from './connection.svelte';
import { Drafts } from './drafts.svelte';
import { Outbox } from './outbox.svelte';
import { ReadMarker } from './read-marker.svelte';
import { forgetHiddenNotices, forgetUploads, keys, read, write } from './storage';
import type { Uploads } from './uploads.svelte';

/** How often presence is sent (contract 7.1). */
const PRESENCE_MS = 30_000;
/** A session that the server rejects this soon after the log-in was never accepted. */
const REJECTED_MS = 5_000;
/** Without keyboard or pointer input in any window for this long, a person is away. */
const IDLE_MS = 5 * 60_000;
/** How often input is reported to other windows. */
const ACTIVITY_EVERY_MS = 10_000;

const NOTICES: Record<string, string> = {
  logout: 'You logged out in another window.',
  password_changed: 'Your password was changed. Please log in again.',
  password_reset: 'Your password was reset. Please log in again.',
  account_deleted: 'This account was deleted.',
  '': '',
};

const OTHER_ADDRESS =
  'Login and password are right, but the server takes sessions under its own address only (webserver.url). Open the chat there.';

export class Session {
  /** Whether there is a session, as far as this page knows. */
  isOpen = $state(auth.hasSessionHint());
  /** Why the last session ended, as a text for the log-in screen. */
  notice = $state('');
  chat = $state.raw(new Chat());
  connection = $state.raw(new Connection(this.chat));
  outbox = $state.raw(new Outbox(this.chat));
  readMarker = $state.raw(new ReadMarker(this.chat));
  readonly drafts = new Drafts();
  /** Loaded when somebody attaches a file for the first time. */
  uploads = $state.raw<Uploads>();
  #presenceTimer: ReturnType<typeof setInterval> | undefined;
  #activeAt = 0;
  #loggedInAt = 0;

  start() {
    if (this.isOpen) this.#begin();
    for (const kind of ['keydown', 'pointerdown'] as const) {
      window.addEventListener(kind, () => this.#noteActivity(), { passive: true });
    }
  }

  async login(identifier: string, password: string) {
    await auth.login(identifier, password);
    this.notice = '';
    this.#loggedInAt = Date.now();
    this.isOpen = true;
    this.#begin();
  }

  /** Ends the session at the server and only then here, so that no session is left open unnoticed. */
  async logout() {
    try {
      await auth.logout();
    } catch (error) {
      // The session has already ended.
      if (!(error instanceof auth.HttpError) || error.status !== 401) throw error;
    }
    this.#discardUploads();
    this.#end('');
    forgetHiddenNotices();
    // Nothing is left for the next user of this browser.
    for (const key of [...keys('draft:'), ...keys('send:'), ...keys('last:'), ...keys('active:')]) write(key, '');
  }

  #begin() {
    const chat = (this.chat = new Chat());
    const connection = (this.connection = new Connection(chat));
    const outbox = (this.outbox = new Outbox(chat));
    this.readMarker = new ReadMarker(chat);
    outbox.isLive = () => connection.status === 'live';
    outbox.onSignedOut = () => this.#end('authentication_required');
    chat.onArrival = ({ room, row }) => {
      if (row.actor === chat.viewerId) outbox.rowArrived(room.id, row);
      else this.readMarker.rowArrived(room, row);
    };
    connection.onSessionEnd = (reason) => this.#end(reason);
    connection.onLive = () => {
      this.drafts.open(chat.viewerId);
      outbox.open(chat.viewerId);
      outbox.resume();
      this.uploads?.open(chat.viewerId);
      for (const room of chat.rooms.values()) if (room.timeline.error) void room.timeline.retry();
      this.#sendPresence();
    };
    connection.start();
    this.#activeAt = Date.now();
    clearInterval(this.#presenceTimer);
    this.#presenceTimer = setInterval(() => this.#sendPresence(), PRESENCE_MS);
  }

  /**
   * There was input. All windows of a browser share a session, so none of them may decide alone that the person is
   * away.
   */
  #noteActivity() {
    const now = Date.now();
    if (!this.chat.viewerId || now - this.#activeAt < ACTIVITY_EVERY_MS) return;
    const wasIdle = this.#isIdle(now);
    this.#activeAt = now;
    write(`active:${this.chat.viewerId}`, String(now));
    if (wasIdle) this.#sendPresence();
  }

  #isIdle(now: number): boolean {
    const elsewhere = Number(read(`active:${this.chat.viewerId}`)) || 0;
    return now - Math.max(this.#activeAt, elsewhere) > IDLE_MS;
  }

  #sendPresence() {
    if (this.connection.status !== 'live') return;
    const status = !this.#isIdle(Date.now()) ? PresenceStatus.ONLINE : PresenceStatus.AWAY;
    account.updatePresence({ status }).catch(() => {});
  }

  #discardUploads() {
    this.uploads?.discard();
    forgetUploads();
  }

  #end(reason: string) {
    clearInterval(this.#presenceTimer);
    this.connection.stop();
    this.outbox.close();
    // Another window has logged out and has removed everything from storage.
    if (reason === 'logout') {
      this.drafts.discard();
      this.#discardUploads();
    } else {
      this.drafts.close();
      this.uploads?.pause();
    }
    const isRejected = reason === 'authentication_required' && Date.now() - this.#loggedInAt < REJECTED_MS;
    this.notice = isRejected ? OTHER_ADDRESS : (NOTICES[reason] ?? 'Your session ended. Please log in again.');
    if (this.uploads?.all.length && reason !== 'account_deleted') this.notice += ' Your uploads continue then.';
    this.isOpen = false;
    this.chat = new Chat();
  }
}

export const session = new Session();
