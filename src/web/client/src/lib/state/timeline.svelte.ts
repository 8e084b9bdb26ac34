// A window of a room's rows: extended by pages at both ends, limited in length, and updated live while it contains the
// newest row.
import type { RoomTimelinePage } from '../api/gen/chatto/api/v1/timeline_pb';
import { rooms } from '../api/client';
import { callErrorOf, type CallError } from '../api/errors';
import type { People } from './people.svelte';
import { rowOf, type Row } from './rows';

const PAGE_ROWS = 50;
/** Rows beyond this number are dropped at the far end, so that memory stays flat however far somebody scrolls. */
const ROWS_MAX = 400;

export type Loading = 'older' | 'newer' | 'around' | undefined;

/** Requests a page and returns a function that applies it to the window. */
type Fetch = () => Promise<() => void>;

/** Why the rows around a message cannot be shown. */
export interface Unavailable {
  text: string;
  mayRetry: boolean;
}

export class Timeline {
  rows = $state.raw<readonly Row[]>([]);
  hasOlder = $state(false);
  hasNewer = $state(false);
  /** Whether a page has been loaded. */
  isLoaded = $state(false);
  loading = $state<Loading>();
  error = $state('');
  /** Set by the view: the newest row is on screen. */
  isFollowing = true;
  /** Cursors by row id, of rows at which a page began or ended. */
  #cursors = new Map<string, string>();
  #removed = new Set<string>();
  #start = '';
  #end = '';
  /** Raised when the window is replaced: pages requested before that are not applied. */
  #generation = 0;
  #people: People;
  #retry: () => Promise<void> = async () => {};

  constructor(
    readonly roomId: string,
    people: People,
  ) {
    this.#people = people;
  }

  /** Applies the newest page, which the realtime connection sends. */
  replace(page: RoomTimelinePage, cursors: Record<string, string>) {
    // The rows around a message are being loaded; they will replace the window.
    if (this.loading === 'around') return;
    const rows = this.#rowsOf(page);
    const overlaps = rows.length > 0 && this.rows.some((row) => row.id === rows[0]?.id);
    if (this.isLoaded && overlaps) {
      const known = this.rows.findIndex((row) => row.id === rows[0]?.id);
      this.rows = [...this.rows.slice(0, known), ...rows];
    } else if (this.isLoaded && !this.isFollowing && this.rows.length > 0) {
      // Somebody reads further up. The rows in between are loaded when they scroll there.
      this.hasNewer = true;
      return;
    } else {
      this.#abandonLoads();
      this.#cursors.clear();
      this.rows = rows;
      this.#start = page.startCursor;
      this.hasOlder = page.hasOlder;
    }
    for (const row of rows) {
      const cursor = cursors[row.id];
      if (cursor) this.#cursors.set(row.id, cursor);
    }
    this.#end = page.endCursor;
    this.hasNewer = false;
    this.isLoaded = true;
  }

  /** Applies a new or changed row. */
  upsert(row: Row, cursor: string) {
    if (this.#removed.has(row.id)) return;
    const at = this.rows.findIndex((one) => one.id === row.id);
    if (at >= 0) {
      // A late update does not bring a deleted message back.
      if (!this.rows[at]?.deletedAt || row.deletedAt) this.rows = this.rows.map((one, i) => (i === at ? row : one));
      return;
    }
    if (this.hasNewer || !this.isLoaded) return;
    let index = this.rows.length;
    while (index > 0 && (this.rows[index - 1]?.at ?? 0) > row.at) index -= 1;
    // A change of a row before the window.
    if (index === 0 && this.hasOlder && this.rows.length > 0) return;
    const isLast = index === this.rows.length;
    this.rows = [...this.rows.slice(0, index), row, ...this.rows.slice(index)];
    if (cursor) {
      this.#cursors.set(row.id, cursor);
      if (isLast) this.#end = cursor;
    }
    if (this.isFollowing) this.#trim('older');
  }

  remove(id: string) {
    this.#removed.add(id);
    this.rows = this.rows.filter((row) => row.id !== id);
  }

  clear() {
    this.#abandonLoads();
    this.rows = [];
    this.#cursors.clear();
    this.hasOlder = this.hasNewer = false;
    this.isLoaded = false;
  }

  loadOlder = () => this.#extend('older');
  loadNewer = () => this.#extend('newer');

  /** Adds the next page at one end and drops as many rows at the other. */
  async #extend(end: 'older' | 'newer') {
    const isOlder = end === 'older';
    if (this.loading || this.error || !(isOlder ? this.hasOlder : this.hasNewer)) return;
    await this.#loadOrReport(end, async () => {
      const { page } = await rooms.getRoomEvents({
        roomId: this.roomId,
        limit: PAGE_ROWS,
        cursor: isOlder ? { case: 'before', value: this.#start } : { case: 'after', value: this.#end },
      });
      return () => {
        if (!page) return;
        const known = new Set(this.rows.map((row) => row.id));
        const rows = this.#rowsOf(page).filter((row) => !known.has(row.id));
        this.rows = isOlder ? [...rows, ...this.rows] : [...this.rows, ...rows];
        if (isOlder) {
          this.#start = page.startCursor || this.#start;
          this.hasOlder = page.hasOlder;
        } else {
          this.#end = page.endCursor || this.#end;
          this.hasNewer = page.hasNewer;
        }
        this.#trim(isOlder ? 'newer' : 'older');
      };
    });
  }

  /** Replaces the window with the rows around one. Returns why, when that cannot be done. */
  async loadAround(id: string): Promise<Unavailable | undefined> {
    if (this.rows.some((row) => row.id === id)) return undefined;
    this.#abandonLoads();
    const failed = await this.#load('around', async () => {
      const response = await rooms.getRoomEventsAround({ roomId: this.roomId, eventId: id, limit: PAGE_ROWS });
      return () => response.page && this.#replaceWith(response.page);
    });
    if (failed?.kind === 'inaccessible') return { text: 'That message is not here any more.', mayRetry: false };
    return failed && { text: failed.text, mayRetry: true };
  }

  /** Replaces the window with the newest rows. */
  async loadNewest() {
    if (!this.hasNewer && this.isLoaded) return;
    this.#abandonLoads();
    await this.#loadOrReport('around', async () => {
      const response = await rooms.getRoomEvents({ roomId: this.roomId, limit: PAGE_ROWS });
      return () => response.page && this.#replaceWith(response.page);
    });
  }

  /** Repeats the load that failed. */
  retry = () => this.#retry();

  /** To be called before the window is replaced: pages that are still being loaded are not applied. */
  #abandonLoads() {
    this.#generation += 1;
    this.loading = undefined;
    this.error = '';
  }

  #replaceWith(page: RoomTimelinePage) {
    this.#cursors.clear();
    this.rows = this.#rowsOf(page);
    this.#start = page.startCursor;
    this.#end = page.endCursor;
    this.hasOlder = page.hasOlder;
    this.hasNewer = page.hasNewer;
    this.isLoaded = true;
  }

  /** A load whose error is shown, and which `retry` repeats. */
  async #loadOrReport(what: NonNullable<Loading>, fetch: Fetch) {
    this.error = '';
    const failed = await this.#load(what, fetch);
    if (!failed) return;
    this.error = failed.text;
    this.#retry = () => this.#loadOrReport(what, fetch);
  }

  /** Runs a load. Its result is ignored when the window was replaced in the meantime. */
  async #load(what: NonNullable<Loading>, fetch: Fetch): Promise<CallError | undefined> {
    const generation = this.#generation;
    this.loading = what;
    try {
      const apply = await fetch();
      if (generation === this.#generation) apply();
    } catch (error) {
      if (generation === this.#generation) return callErrorOf(error);
    } finally {
      if (generation === this.#generation) this.loading = undefined;
    }
    return undefined;
  }

  /** The rows of a page. The window can be cut at its first and last row, whose cursors are known. */
  #rowsOf(page: RoomTimelinePage): Row[] {
    this.#people.include(page.includes?.users);
    const first = page.events[0];
    const last = page.events.at(-1);
    if (first && page.startCursor) this.#cursors.set(first.id, page.startCursor);
    if (last && page.endCursor) this.#cursors.set(last.id, page.endCursor);
    return page.events
      .map(rowOf)
      .filter((row): row is Row => row !== undefined && !this.#removed.has(row.id));
  }

  #trim(end: 'older' | 'newer') {
    const surplus = this.rows.length - ROWS_MAX;
    if (surplus <= 0) return;
    const has = (row: Row | undefined) => row !== undefined && this.#cursors.has(row.id);
    if (end === 'older') {
      let first = surplus;
      while (first > 0 && !has(this.rows[first])) first -= 1;
      if (first === 0) return;
      this.#dropCursors(this.rows.slice(0, first));
      this.rows = this.rows.slice(first);
      this.#start = this.#cursors.get(this.rows[0]?.id ?? '') ?? '';
      this.hasOlder = true;
    } else {
      let count = ROWS_MAX;
      while (count < this.rows.length && !has(this.rows[count - 1])) count += 1;
      if (count === this.rows.length) return;
      this.#dropCursors(this.rows.slice(count));
      this.rows = this.rows.slice(0, count);
      this.#end = this.#cursors.get(this.rows.at(-1)?.id ?? '') ?? '';
      this.hasNewer = true;
    }
  }

  #dropCursors(rows: readonly Row[]) {
    for (const row of rows) this.#cursors.delete(row.id);
  }
}
