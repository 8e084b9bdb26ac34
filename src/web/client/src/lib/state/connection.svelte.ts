// Keeps one realtime connection open: catches up, applies what follows, resumes from the cursor after a loss, and
// retains rooms.
import type { RealtimeProjectionEvent } from '../api/gen/chatto/realtime/v1/projection_pb';
import { Socket, type ServerFrame } from '../api/socket';
import type { Chat } from './chat.svelte';

/** Waits before attempts to reconnect; the last one is repeated. */
const BACKOFF_MS = [0, 500, 1_000, 2_000, 4_000, 5_000];
/** Without a frame for this long and for three heartbeats, the connection is dead (contract 8.8). */
const SILENCE_MIN_MS = 30_000;
/** After this long in the background the connection may be dead without a notice: it is replaced. */
const HIDDEN_MAX_MS = 30_000;
/** Rooms that a new connection asks for at once: those used last. */
const RECONNECT_ROOMS_MAX = 12;
/** Rooms that one connection may retain (contract 8.5). */
const RETAINED_ROOMS_MAX = 64;

export type Status =
  /** Before the first load has finished. */
  | 'starting'
  | 'live'
  /** Lost; the client is reconnecting. */
  | 'lost'
  /** Ended for good: the session is over, or the server no longer supports this client. */
  | 'stopped';

export class Connection {
  status = $state<Status>('starting');
  /** Called with the reason when the session ends. */
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
  /** Rooms whose changes the server sends on this connection. */
  #retained = new Set<string>();
  /** Rooms in the order of their use, the most recent last. */
  #used: string[] = [];
  /** Rooms to load; they are requested one at a time. */
  #toHydrate = new Set<string>();
  #hydrating = '';
  /** Whether it has caught up. Rooms can be requested only then. */
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

  /** Makes sure that a room's timeline is loaded and kept current. */
  retain(roomId: string) {
    this.#used = [...this.#used.filter((id) => id !== roomId), roomId];
    if (this.#retained.has(roomId)) return;
    this.#toHydrate.add(roomId);
    // A room is released only by a new connection.
    if (this.#retained.size >= RETAINED_ROOMS_MAX) this.#reconnect();
    else this.#hydrateNext();
  }

  /** Drops the connection and all state that belongs to it. */
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
    // A server that restarts disconnects all clients at once. They should not all return at once.
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
      // Heartbeats and pongs only show that the connection is alive.
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

  /** Applies the load at once, so that no screen shows half of it. */
  #caughtUp(cursor: string) {
    const events = this.#catchingUp ?? [];
    this.#catchingUp = undefined;
    if (!this.#apply(events)) return;
    this.#chat.complete();
    this.#cursor = cursor;
    this.#attempts = 0;
    this.#isReady = true;
    this.status = 'live';
    // A replay has no timeline page for a room that was not loaded before.
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
      // An event may be half applied: reload everything.
      console.error(error);
      this.#cursor = '';
      this.#socket?.close();
      return false;
    }
  }

  #hydrateNext() {
    if (!this.#isReady || this.#hydrating || this.#hydrationRetry) return;
    // The room entered last is the one on screen: it comes first.
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
