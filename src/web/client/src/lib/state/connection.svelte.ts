// Keeps one realtime connection: catches up, follows, comes back from its cursor, holds rooms.
import type { RealtimeProjectionEvent } from '../api/gen/chatto/realtime/v1/projection_pb';
import { Socket, type ServerFrame } from '../api/socket';
import type { Chat } from './chat.svelte';

/** The first attempt is at once; no wait is longer than the last. */
const WAITS_MS = [0, 500, 1_000, 2_000, 4_000, 5_000];
/** Nothing heard for so long means a dead connection (contract 8.8). */
const SILENCE_MIN_MS = 30_000;
/** After so long in the background nobody knows what became of the connection. */
const ASLEEP_MS = 30_000;
/** Rooms that a new connection holds at once: those used last. */
const RETAINED_MAX = 12;
/** Rooms a connection may hold (contract 8.5). */
const HELD_MAX = 64;

export type Link =
  /** The first load. */
  | 'starting'
  | 'live'
  /** Lost; it is tried again by itself. */
  | 'lost'
  /** The server does not want this client any more. */
  | 'stopped';

export class Connection {
  link = $state<Link>('starting');
  /** Why the server let go of this client; `''` while it did not. */
  onSessionEnd: (reason: string) => void = () => {};
  onLive: () => void = () => {};
  #chat: Chat;
  #socket: Socket | undefined;
  #cursor = '';
  #attempts = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #retryAfter = 0;
  #watchdog: ReturnType<typeof setInterval> | undefined;
  #heardAt = 0;
  #hiddenAt = 0;
  #interval = 15_000;
  #catchingUp: RealtimeProjectionEvent[] | undefined;
  /** Rooms this connection holds. */
  #held = new Set<string>();
  /** Rooms in the order of their use, the last one last. */
  #used: string[] = [];
  /** Rooms to be asked for, one at a time. */
  #wanted = new Set<string>();
  #asked = '';
  /** Whether this connection may be asked: it has caught up. */
  #isReady = false;
  #pause: ReturnType<typeof setTimeout> | undefined;

  constructor(chat: Chat) {
    this.#chat = chat;
  }

  start() {
    window.addEventListener('online', this.#wake);
    window.addEventListener('pageshow', this.#wake);
    document.addEventListener('visibilitychange', this.#look);
    this.#watchdog = setInterval(() => this.#watch(), 5_000);
    this.#connect();
  }

  stop() {
    window.removeEventListener('online', this.#wake);
    window.removeEventListener('pageshow', this.#wake);
    document.removeEventListener('visibilitychange', this.#look);
    clearInterval(this.#watchdog);
    this.#letGo();
    this.link = 'stopped';
  }

  /** Makes sure that a room's timeline is loaded and followed. */
  hold(roomId: string) {
    this.#used = [...this.#used.filter((id) => id !== roomId), roomId];
    if (this.#held.has(roomId)) return;
    this.#wanted.add(roomId);
    // Only a new connection lets go of rooms.
    if (this.#held.size >= HELD_MAX) this.#reconnect();
    else this.#ask();
  }

  /** Forgets the present connection and all that belongs to it. */
  #letGo() {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    clearTimeout(this.#pause);
    this.#pause = undefined;
    this.#socket?.drop();
    this.#socket = undefined;
    this.#held.clear();
    this.#asked = '';
    this.#isReady = false;
    this.#catchingUp = undefined;
  }

  #connect() {
    this.#letGo();
    this.#heardAt = Date.now();
    const socket = new Socket({
      frame: (frame) => {
        if (this.#socket === socket) this.#take(frame);
      },
      closed: () => {
        if (this.#socket === socket) this.#lost();
      },
    });
    this.#socket = socket;
  }

  #reconnect = () => {
    this.#attempts = 0;
    this.#connect();
  };

  #lost() {
    this.#socket = undefined;
    this.#isReady = false;
    if (this.link === 'stopped') return;
    this.link = this.#chat.isLoaded ? 'lost' : this.#attempts > 0 ? 'lost' : 'starting';
    const wait = WAITS_MS[Math.min(this.#attempts, WAITS_MS.length - 1)] ?? 0;
    this.#attempts += 1;
    // Many clients lose the same server at once: they do not come back at once.
    const spread = wait * (0.8 + Math.random() * 0.4);
    this.#retry = setTimeout(() => this.#connect(), Math.max(spread, this.#retryAfter));
    this.#retryAfter = 0;
  }

  #wake = () => {
    if (this.#retry !== undefined) this.#reconnect();
    else if (Date.now() - this.#heardAt > this.#interval + 5_000) this.#reconnect();
  };

  #look = () => {
    if (document.visibilityState === 'hidden') {
      this.#hiddenAt = Date.now();
    } else if (this.#retry !== undefined || Date.now() - this.#hiddenAt > ASLEEP_MS) {
      this.#reconnect();
    }
  };

  #watch() {
    const silence = Date.now() - this.#heardAt;
    if (this.#socket && silence > Math.max(SILENCE_MIN_MS, 3 * this.#interval)) this.#reconnect();
  }

  #take(frame: ServerFrame) {
    this.#heardAt = Date.now();
    switch (frame.case) {
      case 'hello':
        this.#interval = (frame.value.heartbeatIntervalSeconds || 15) * 1000;
        this.#subscribe();
        break;
      case 'subscribed':
        this.#catchingUp = [];
        break;
      case 'projectionEvent':
        if (this.#catchingUp) this.#catchingUp.push(frame.value);
        else this.#apply([frame.value]);
        break;
      case 'caughtUp':
        this.#caughtUp(frame.value.cursor);
        break;
      case 'event':
        if (frame.value.event.case === 'sessionTerminated') this.#end(frame.value.event.value.reason);
        else this.#chat.hear(frame.value);
        break;
      case 'error':
        this.#fault(frame.value);
        break;
      case 'close':
        if (!frame.value.reconnect) this.#end(frame.value.code);
        else this.#retryAfter = frame.value.retryAfterMs;
        break;
      default:
      // Heartbeats and answers to pings only say that the connection lives.
    }
  }

  #subscribe() {
    const retainedRoomIds = this.#used.slice(-RETAINED_MAX);
    this.#held = new Set(retainedRoomIds);
    this.#socket?.send({
      case: 'subscribeEvents',
      value: { retainedRoomIds, ...(this.#cursor && { resumeCursor: this.#cursor }) },
    });
  }

  /** All at once, so that nobody sees half a state. */
  #caughtUp(cursor: string) {
    const events = this.#catchingUp ?? [];
    this.#catchingUp = undefined;
    if (!this.#apply(events)) return;
    this.#chat.complete();
    this.#cursor = cursor;
    this.#attempts = 0;
    this.#isReady = true;
    this.link = 'live';
    // A replay brings no window of a room that had none before.
    for (const id of this.#held) {
      if (this.#chat.room(id)?.timeline.isLoaded) this.#wanted.delete(id);
      else this.#held.delete(id);
    }
    const last = this.#used.at(-1);
    if (last) this.hold(last);
    this.#ask();
    this.onLive();
  }

  #apply(events: readonly RealtimeProjectionEvent[]): boolean {
    try {
      for (const event of events) {
        this.#chat.apply(event);
        if (event.resumeCursor) this.#cursor = event.resumeCursor;
        for (const { operation } of event.operations) {
          if (operation.case === 'roomTimelineReplace') this.#answered(operation.value.roomId);
        }
      }
      return true;
    } catch (error) {
      // Half an event is none: everything is loaded anew.
      console.error(error);
      this.#cursor = '';
      this.#socket?.close();
      return false;
    }
  }

  #ask() {
    if (!this.#isReady || this.#asked || this.#pause) return;
    // The room that somebody waits for is the one they went to last.
    const roomId = [...this.#used].reverse().find((id) => this.#wanted.has(id));
    if (!roomId) return;
    this.#wanted.delete(roomId);
    this.#asked = roomId;
    this.#held.add(roomId);
    this.#socket?.send({ case: 'hydrateRoom', value: { roomId } });
  }

  #answered(roomId: string) {
    if (this.#asked !== roomId) return;
    this.#asked = '';
    this.#ask();
  }

  #fault(error: Extract<ServerFrame, { case: 'error' }>['value']) {
    if (error.fatal) {
      if (error.code === 'authentication_required') this.#end(error.code);
      else if (error.code === 'unsupported_protocol') this.stop();
      else this.#cursor = '';
      return;
    }
    const roomId = error.roomId;
    if (!roomId) return;
    if (error.code.startsWith('room_hydration_')) {
      this.#held.delete(roomId);
      this.#wanted.add(roomId);
      this.#pause = setTimeout(() => {
        this.#pause = undefined;
        this.#ask();
      }, error.retryAfterMs ?? 1_000);
    } else if (error.code === 'too_many_retained_rooms') {
      this.#reconnect();
      return;
    }
    this.#answered(roomId);
  }

  #end(reason: string) {
    this.stop();
    this.onSessionEnd(reason);
  }
}
