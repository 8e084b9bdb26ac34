// Keeps one realtime connection: catches up, follows, comes back from its cursor, holds rooms.
import type { RealtimeProjectionEvent } from '../api/gen/chatto/realtime/v1/projection_pb';
import { Socket, type ServerFrame } from '../api/socket';
import type { Chat } from './chat.svelte';

/** The first attempt is at once; no wait is longer than the last. */
const BACKOFF_MS = [0, 500, 1_000, 2_000, 4_000, 5_000];
/** Nothing heard for so long means a dead connection (contract 8.8). */
const SILENCE_MIN_MS = 30_000;
/** After so long in the background nobody knows what became of the connection. */
const HIDDEN_MAX_MS = 30_000;
/** Rooms that a new connection holds at once: those used last. */
const RECONNECT_ROOMS_MAX = 12;
/** Rooms a connection may hold (contract 8.5). */
const RETAINED_ROOMS_MAX = 64;

export type Status =
  /** The first load. */
  | 'starting'
  | 'live'
  /** Lost; it is tried again by itself. */
  | 'lost'
  /** The server does not want this client any more. */
  | 'stopped';

export class Connection {
  status = $state<Status>('starting');
  /** Why the server let go of this client; `''` while it did not. */
  onSessionEnd: (reason: string) => void = () => {};
  onLive: () => void = () => {};
  #chat: Chat;
  #socket: Socket | undefined;
  #cursor = '';
  #attempts = 0;
  #reconnectTimer: ReturnType<typeof setTimeout> | undefined;
  #retryAfter = 0;
  #watchdog: ReturnType<typeof setInterval> | undefined;
  #lastFrameAt = 0;
  #hiddenAt = 0;
  #heartbeatMs = 15_000;
  #catchingUp: RealtimeProjectionEvent[] | undefined;
  /** Rooms this connection holds. */
  #retained = new Set<string>();
  /** Rooms in the order of their use, the last one last. */
  #used: string[] = [];
  /** Rooms to be asked for, one at a time. */
  #toHydrate = new Set<string>();
  #hydrating = '';
  /** Whether this connection may be asked: it has caught up. */
  #isReady = false;
  #hydrationRetry: ReturnType<typeof setTimeout> | undefined;

  constructor(chat: Chat) {
    this.#chat = chat;
  }

  start() {
    window.addEventListener('online', this.#networkReturned);
    window.addEventListener('pageshow', this.#networkReturned);
    document.addEventListener('visibilitychange', this.#visibilityChanged);
    this.#watchdog = setInterval(() => this.#checkSilence(), 5_000);
    this.#connect();
  }

  stop() {
    window.removeEventListener('online', this.#networkReturned);
    window.removeEventListener('pageshow', this.#networkReturned);
    document.removeEventListener('visibilitychange', this.#visibilityChanged);
    clearInterval(this.#watchdog);
    this.#disconnect();
    this.status = 'stopped';
  }

  /** Makes sure that a room's timeline is loaded and followed. */
  retain(roomId: string) {
    this.#used = [...this.#used.filter((id) => id !== roomId), roomId];
    if (this.#retained.has(roomId)) return;
    this.#toHydrate.add(roomId);
    // Only a new connection lets go of rooms.
    if (this.#retained.size >= RETAINED_ROOMS_MAX) this.#reconnect();
    else this.#hydrateNext();
  }

  /** Forgets the present connection and all that belongs to it. */
  #disconnect() {
    clearTimeout(this.#reconnectTimer);
    this.#reconnectTimer = undefined;
    clearTimeout(this.#hydrationRetry);
    this.#hydrationRetry = undefined;
    this.#socket?.drop();
    this.#socket = undefined;
    this.#retained.clear();
    this.#hydrating = '';
    this.#isReady = false;
    this.#catchingUp = undefined;
  }

  #connect() {
    this.#disconnect();
    this.#lastFrameAt = Date.now();
    const socket = new Socket({
      frame: (frame) => {
        if (this.#socket === socket) this.#handle(frame);
      },
      closed: () => {
        if (this.#socket === socket) this.#connectionLost();
      },
    });
    this.#socket = socket;
  }

  #reconnect = () => {
    this.#attempts = 0;
    this.#connect();
  };

  #connectionLost() {
    this.#socket = undefined;
    this.#isReady = false;
    if (this.status === 'stopped') return;
    this.status = this.#chat.isLoaded ? 'lost' : this.#attempts > 0 ? 'lost' : 'starting';
    const backoff = BACKOFF_MS[Math.min(this.#attempts, BACKOFF_MS.length - 1)] ?? 0;
    this.#attempts += 1;
    // Many clients lose the same server at once: they do not come back at once.
    const spread = backoff * (0.8 + Math.random() * 0.4);
    this.#reconnectTimer = setTimeout(() => this.#connect(), Math.max(spread, this.#retryAfter));
    this.#retryAfter = 0;
  }

  #networkReturned = () => {
    if (this.#reconnectTimer !== undefined) this.#reconnect();
    else if (Date.now() - this.#lastFrameAt > this.#heartbeatMs + 5_000) this.#reconnect();
  };

  #visibilityChanged = () => {
    if (document.visibilityState === 'hidden') {
      this.#hiddenAt = Date.now();
    } else if (this.#reconnectTimer !== undefined || Date.now() - this.#hiddenAt > HIDDEN_MAX_MS) {
      this.#reconnect();
    }
  };

  #checkSilence() {
    const silence = Date.now() - this.#lastFrameAt;
    if (this.#socket && silence > Math.max(SILENCE_MIN_MS, 3 * this.#heartbeatMs)) this.#reconnect();
  }

  #handle(frame: ServerFrame) {
    this.#lastFrameAt = Date.now();
    switch (frame.case) {
      case 'hello':
        this.#heartbeatMs = (frame.value.heartbeatIntervalSeconds || 15) * 1000;
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
        else this.#chat.applyEphemeral(frame.value);
        break;
      case 'error':
        this.#handleError(frame.value);
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
    const retainedRoomIds = this.#used.slice(-RECONNECT_ROOMS_MAX);
    this.#retained = new Set(retainedRoomIds);
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
    this.status = 'live';
    // A replay brings no window of a room that had none before.
    for (const id of this.#retained) {
      if (this.#chat.room(id)?.timeline.isLoaded) this.#toHydrate.delete(id);
      else this.#retained.delete(id);
    }
    const last = this.#used.at(-1);
    if (last) this.retain(last);
    this.#hydrateNext();
    this.onLive();
  }

  #apply(events: readonly RealtimeProjectionEvent[]): boolean {
    try {
      for (const event of events) {
        this.#chat.apply(event);
        if (event.resumeCursor) this.#cursor = event.resumeCursor;
        for (const { operation } of event.operations) {
          if (operation.case === 'roomTimelineReplace') this.#hydrated(operation.value.roomId);
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

  #hydrateNext() {
    if (!this.#isReady || this.#hydrating || this.#hydrationRetry) return;
    // The room that somebody waits for is the one they went to last.
    const roomId = [...this.#used].reverse().find((id) => this.#toHydrate.has(id));
    if (!roomId) return;
    this.#toHydrate.delete(roomId);
    this.#hydrating = roomId;
    this.#retained.add(roomId);
    this.#socket?.send({ case: 'hydrateRoom', value: { roomId } });
  }

  #hydrated(roomId: string) {
    if (this.#hydrating !== roomId) return;
    this.#hydrating = '';
    this.#hydrateNext();
  }

  #handleError(error: Extract<ServerFrame, { case: 'error' }>['value']) {
    if (error.fatal) {
      if (error.code === 'authentication_required') this.#end(error.code);
      else if (error.code === 'unsupported_protocol') this.stop();
      else this.#cursor = '';
      return;
    }
    const roomId = error.roomId;
    if (!roomId) return;
    if (error.code.startsWith('room_hydration_')) {
      this.#retained.delete(roomId);
      this.#toHydrate.add(roomId);
      this.#hydrationRetry = setTimeout(() => {
        this.#hydrationRetry = undefined;
        this.#hydrateNext();
      }, error.retryAfterMs ?? 1_000);
    } else if (error.code === 'too_many_retained_rooms') {
      this.#reconnect();
      return;
    }
    this.#hydrated(roomId);
  }

  #end(reason: string) {
    this.stop();
    this.onSessionEnd(reason);
  }
}
