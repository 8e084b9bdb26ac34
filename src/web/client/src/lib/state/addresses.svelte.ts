// Addresses of files. The server's contain a ticket that ends after a day: they are renewed before that while the file
// is on screen, and after a failed load. The same call tells sizes, which messages do not.
import type { MessageFile } from './rows';

/** What the server knows of a file. */
export interface FileRecord {
  id: string;
  size: number;
  url: string;
  preview: string;
  expiresAt: number;
}

export type FetchRecords = (roomId: string, ids: readonly string[]) => Promise<readonly FileRecord[]>;

/** How long before their end addresses are renewed (contract 10.3). */
const RENEW_BEFORE_MS = 120_000;
const CHECK_MS = 30_000;
/** Ids of one call (contract 4.3). */
const BATCH_MAX = 100;
/** Records that are kept although their files are not on screen. */
const KEPT_MAX = 1_000;

interface Batch {
  ids: Set<string>;
  done: Promise<void>;
}

export class Addresses {
  #records = $state.raw<ReadonlyMap<string, FileRecord>>(new Map());
  #fetch: FetchRecords;
  /** Files on screen and their rooms; a file that is shown twice is there twice. */
  #shown = new Map<MessageFile, string>();
  #batches = new Map<string, Batch>();
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(fetch: FetchRecords) {
    this.#fetch = fetch;
  }

  /** The newest addresses of a file. */
  of(file: MessageFile): Pick<FileRecord, 'url' | 'preview' | 'expiresAt'> {
    const record = this.#records.get(file.id);
    return record && record.expiresAt >= file.expiresAt ? record : file;
  }

  /** Bytes; `undefined` while that is not known. */
  sizeOf(file: MessageFile): number | undefined {
    return this.#records.get(file.id)?.size;
  }

  /** Keeps the addresses of files current until the returned function is called. */
  show(roomId: string, files: readonly MessageFile[]): () => void {
    // What is being sent has no address yet.
    const own = files.filter((file) => file.url !== '').map((file) => ({ ...file }));
    for (const file of own) this.#shown.set(file, roomId);
    const withoutSize = own.filter((file) => file.kind !== 'image' && !this.#records.has(file.id));
    if (withoutSize.length > 0) void this.renew(roomId, withoutSize.map((file) => file.id)).catch(() => {});
    this.#timer ??= setInterval(() => this.#renewOld(), CHECK_MS);
    return () => {
      for (const file of own) this.#shown.delete(file);
      if (this.#shown.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    };
  }

  /** Requests records. Those asked for at the same moment go in one call. */
  renew(roomId: string, ids: readonly string[]): Promise<void> {
    let batch = this.#batches.get(roomId);
    if (!batch) {
      const wanted = new Set<string>();
      batch = { ids: wanted, done: Promise.resolve().then(() => this.#run(roomId, wanted)) };
      this.#batches.set(roomId, batch);
    }
    for (const id of ids) batch.ids.add(id);
    return batch.done;
  }

  async #run(roomId: string, wanted: ReadonlySet<string>) {
    this.#batches.delete(roomId);
    const ids = [...wanted];
    for (let at = 0; at < ids.length; at += BATCH_MAX) {
      const records = await this.#fetch(roomId, ids.slice(at, at + BATCH_MAX));
      const known = new Map(this.#records.size > KEPT_MAX ? this.#recordsOnScreen() : this.#records);
      for (const record of records) known.set(record.id, record);
      this.#records = known;
    }
  }

  #renewOld() {
    const due = Date.now() + RENEW_BEFORE_MS;
    for (const [file, roomId] of this.#shown) {
      const { expiresAt } = this.of(file);
      if (expiresAt > 0 && expiresAt <= due) this.renew(roomId, [file.id]).catch(() => {});
    }
  }

  #recordsOnScreen(): Map<string, FileRecord> {
    const shown = new Set([...this.#shown.keys()].map((file) => file.id));
    return new Map([...this.#records].filter(([id]) => shown.has(id)));
  }
}
