// One file on its way to the server: hashed, sent in chunks, completed. A cut connection delays it, and so does the end
// of the session; it continues with the byte that the server has not confirmed yet.
import type { CallError, ErrorKind } from '../api/errors';
import { Sha256 } from './sha256';

export type UploadPhase =
  /** Waits until other uploads are done. */
  | 'queued'
  /** The hash of the whole file is computed. */
  | 'hashing'
  | 'sending'
  /** A call failed; it is repeated after a while. */
  | 'waiting'
  /** The session has ended. It continues after the next log-in. */
  | 'signed-out'
  | 'done'
  /** The user decides. */
  | 'failed'
  | 'cancelled';

/** What the server knows of an upload. */
export interface Receipt {
  id: string;
  /** Bytes it has. */
  offset: number;
  chunkMaxBytes: number;
  /** The file, once the upload is completed. */
  assetId: string;
}

/** How far an upload has come, without what the server knows; empty texts for what is not there yet. */
export interface Progress {
  id: string;
  sha256: string;
  assetId: string;
}

/** What an upload needs of a file; a `File` of the browser has it. */
export interface Source {
  readonly name: string;
  readonly type: string;
  readonly size: number;
  slice(start: number, end: number): { arrayBuffer(): Promise<ArrayBuffer> };
}

export interface UploadCalls {
  create(roomId: string, file: Pick<Source, 'name' | 'type' | 'size'>, sha256: string): Promise<Receipt>;
  chunk(id: string, offset: number, content: Uint8Array, sha256: string): Promise<Receipt>;
  /** How far an upload has come. */
  receipt(id: string): Promise<Receipt>;
  complete(id: string): Promise<Receipt>;
  cancel(id: string): Promise<void>;
  errorOf(error: unknown): CallError;
  /** A call found that the session has ended. */
  onSignedOut(): void;
}

/** Hashed at a time. That takes 2 ms on a desktop and some 10 ms on a slow phone, so the page stays responsive. */
const SLICE_BYTES = 128 * 1024;
/** The smallest chunk: on a line so slow that larger ones are not confirmed in time. */
const CHUNK_MIN_BYTES = 64 * 1024;
const BACKOFF_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000];
/** Errors in a row, without a byte confirmed in between, that are not about the connection. */
const ERRORS_MAX = 3;

const UNREADABLE = 'This cannot be read. It may be a folder, or it was changed or moved.';

class UnreadableError extends Error {}
/** Somebody cancelled or paused the upload while a call or the disk was busy. */
class StoppedError extends Error {}

export class Upload {
  phase = $state<UploadPhase>('queued');
  /** Bytes that the server has confirmed. */
  sentBytes = $state(0);
  error = $state('');
  assetId = $state('');
  #calls: UploadCalls;
  #source: Source;
  #onChange: () => void;
  #sha256 = '';
  #id = '';
  #chunkMaxBytes = CHUNK_MIN_BYTES;
  #chunkBytes = Infinity;
  /** A call failed: what the server has is not known. */
  #isUncertain = false;
  #attempts = 0;
  #errors = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Identifies the run whose results count. */
  #run: object | undefined;

  /** `onChange` is called when another phase begins, and when the server has given it an id. */
  constructor(
    readonly key: string,
    readonly roomId: string,
    source: Source,
    calls: UploadCalls,
    onChange: () => void,
  ) {
    this.#source = source;
    this.#calls = calls;
    this.#onChange = onChange;
  }

  get name(): string {
    return this.#source.name || 'file';
  }

  get type(): string {
    return this.#source.type;
  }

  get size(): number {
    return this.#source.size;
  }

  get progress(): Progress {
    return { id: this.#id, sha256: this.#sha256, assetId: this.assetId };
  }

  /** Takes over from an earlier page; to be called before it runs. */
  continueFrom({ id, sha256, assetId }: Progress) {
    this.#id = id;
    this.#sha256 = sha256;
    this.#isUncertain = true;
    if (!assetId) return;
    this.assetId = assetId;
    this.sentBytes = this.size;
    this.phase = 'done';
  }

  /** Whether it takes one of the places of uploads that run at the same time. */
  get isActive(): boolean {
    return this.phase === 'hashing' || this.phase === 'sending' || this.phase === 'waiting';
  }

  /** Starts or continues. */
  async run() {
    clearTimeout(this.#timer);
    if (this.#run || this.phase === 'done' || this.phase === 'cancelled') return;
    const run = (this.#run = {});
    this.error = '';
    try {
      await this.#proceed(run);
    } catch (error) {
      if (this.#run === run) this.#failed(error);
    } finally {
      if (this.#run === run) this.#run = undefined;
    }
  }

  /** The connection is back: a waiting upload continues at once. */
  resume() {
    this.#attempts = 0;
    if (this.phase === 'waiting') void this.run();
  }

  /** The user asks for another attempt. */
  retry() {
    if (this.phase !== 'failed') return;
    this.#attempts = this.#errors = 0;
    this.#enter('queued');
  }

  /** The session has ended. */
  pause() {
    if (this.phase === 'done' || this.phase === 'failed') return;
    this.#stop();
    this.#enter('signed-out');
  }

  /** There is a session again. */
  unpause() {
    if (this.phase === 'signed-out') this.#enter('queued');
  }

  /** Ends it; the server forgets what it has. */
  cancel() {
    this.#stop();
    if (this.phase !== 'done') this.#forget();
    this.#enter('cancelled');
  }

  /** Ends it without a call: there is no session. */
  drop() {
    this.#stop();
    this.#enter('cancelled');
  }

  #stop() {
    clearTimeout(this.#timer);
    this.#run = undefined;
    this.#isUncertain = true;
  }

  async #proceed(run: object) {
    if (!this.#sha256) {
      this.#enter('hashing');
      this.#sha256 = await this.#hash(run, 0, this.size);
    }
    this.#enter('sending');
    if (!this.#id) await this.#call(run, this.#calls.create(this.roomId, this, this.#sha256));
    else if (this.#isUncertain) await this.#call(run, this.#calls.receipt(this.#id));
    this.#isUncertain = false;
    while (this.sentBytes < this.size) await this.#sendChunk(run);
    if (!this.assetId) await this.#call(run, this.#calls.complete(this.#id));
    this.#enter('done');
  }

  async #sendChunk(run: object) {
    const length = Math.min(this.#chunkBytes, this.#chunkMaxBytes, this.size - this.sentBytes);
    const content = new Uint8Array(length);
    const start = this.sentBytes;
    const hash = await this.#hash(run, start, start + length, (part, at) => content.set(part, at - start));
    try {
      await this.#call(run, this.#calls.chunk(this.#id, start, content, hash));
    } catch (error) {
      this.#chunkBytes = Math.max(CHUNK_MIN_BYTES, Math.floor(length / 2));
      throw error;
    }
    this.#chunkBytes *= 2;
  }

  /** The hash of a part of the file; `take` gets its bytes on the way. */
  async #hash(run: object, start: number, end: number, take = (_part: Uint8Array, _at: number) => {}): Promise<string> {
    const hash = new Sha256();
    for (let at = start; at < end; at += SLICE_BYTES) {
      const part = await this.#read(run, at, Math.min(at + SLICE_BYTES, end));
      hash.update(part);
      take(part, at);
    }
    return hash.hex();
  }

  async #read(run: object, start: number, end: number): Promise<Uint8Array> {
    const bytes = await this.#source.slice(start, end).arrayBuffer().catch(() => undefined);
    if (this.#run !== run) throw new StoppedError();
    if (bytes?.byteLength !== end - start) throw new UnreadableError();
    return new Uint8Array(bytes);
  }

  async #call(run: object, response: Promise<Receipt>) {
    const { id, offset, chunkMaxBytes, assetId } = await response;
    if (this.#run !== run) {
      // It was cancelled while it was being created.
      if (this.phase === 'cancelled' && !this.#id) this.#calls.cancel(id).catch(() => {});
      throw new StoppedError();
    }
    if (offset > this.sentBytes) this.#attempts = this.#errors = 0;
    const isNew = this.#id !== id;
    this.#id = id;
    this.sentBytes = offset;
    this.#chunkMaxBytes = chunkMaxBytes;
    this.assetId = assetId;
    if (isNew) this.#onChange();
  }

  #failed(error: unknown) {
    this.#isUncertain = true;
    if (error instanceof UnreadableError) {
      this.#giveUp(UNREADABLE);
      return;
    }
    const { kind, text } = this.#calls.errorOf(error);
    if (kind === 'signed-out') {
      this.#enter('signed-out');
      this.#calls.onSignedOut();
    } else if (kind === 'transient' || kind === 'rate-limited') {
      this.#wait(text);
    } else {
      this.#refused(kind, text);
    }
  }

  #refused(kind: ErrorKind, text: string) {
    this.#errors += 1;
    if (!this.#id || this.#errors >= ERRORS_MAX) {
      this.#giveUp(text);
      return;
    }
    // The server has forgotten the upload, or has another part of it than this page believes.
    if (kind === 'inaccessible') this.#startOver();
    this.#wait(text);
  }

  #wait(text: string) {
    this.error = text;
    this.#enter('waiting');
    const backoff = BACKOFF_MS[Math.min(this.#attempts, BACKOFF_MS.length - 1)] ?? 0;
    this.#attempts += 1;
    this.#timer = setTimeout(() => void this.run(), backoff);
  }

  #giveUp(text: string) {
    this.#forget();
    this.#startOver();
    // The next attempt reads the file again: it may have changed.
    this.#sha256 = '';
    this.error = text;
    this.#enter('failed');
  }

  /** What cannot be cancelled now the server removes after a while. */
  #forget() {
    if (this.#id) this.#calls.cancel(this.#id).catch(() => {});
  }

  #startOver() {
    this.#id = '';
    this.#isUncertain = false;
    this.sentBytes = 0;
  }

  #enter(phase: UploadPhase) {
    if (this.phase === phase) return;
    this.phase = phase;
    this.#onChange();
  }
}
