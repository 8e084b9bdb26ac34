// The files that the user attaches: those of all rooms, because uploads continue while another room is on screen, and
// after a reload of the page. They are discarded when another user logs in.
import { ATTACHMENTS_MAX } from '../limits';
import { Upload, type Progress, type Source, type UploadCalls } from './upload.svelte';
import { sizeText } from './sizes';

/** Uploads that run at the same time. */
const ACTIVE_MAX = 2;

/** Why files were not attached. */
export interface Refusal {
  roomId: string;
  texts: readonly string[];
}

/** Where uploads are kept for the next page of this tab. */
export interface UploadStore {
  /** What was saved last; `''` if nothing was. */
  load(): string;
  save(text: string): void;
  /** A key for a file, different in all tabs. */
  newKey(): string;
  keepFile(key: string, file: Blob): void;
  /** Fails, or resolves with nothing, if the file could not be kept. */
  file(key: string): Promise<Blob>;
  removeFile(key: string): void;
  /** Removes what closed tabs have left. */
  removeOld(): void;
}

interface StoredUpload extends Progress {
  key: string;
  room: string;
  name: string;
  type: string;
  size: number;
}

interface Stored {
  user: string;
  uploads: readonly StoredUpload[];
}

function storedIn(text: string): Stored | undefined {
  try {
    return JSON.parse(text) as Stored;
  } catch {
    return undefined;
  }
}

export class Uploads {
  all = $state.raw<readonly Upload[]>([]);
  refusal = $state.raw<Refusal>({ roomId: '', texts: [] });
  #calls: UploadCalls;
  #maxBytes: () => number;
  #store: UploadStore;
  #user = '';

  /** `maxBytes` returns 0 while the server's limit is not known. */
  constructor(calls: UploadCalls, maxBytes: () => number, store: UploadStore) {
    this.#calls = calls;
    this.#maxBytes = maxBytes;
    this.#store = store;
  }

  inRoom(roomId: string): readonly Upload[] {
    return this.all.filter((one) => one.roomId === roomId);
  }

  /** Starts uploads to a room. Files that the server would reject are refused before anything is sent. */
  add(roomId: string, files: readonly File[]) {
    const texts: string[] = [];
    const max = this.#maxBytes();
    let room = ATTACHMENTS_MAX - this.inRoom(roomId).length;
    const added: Upload[] = [];
    for (const file of files) {
      if (max > 0 && file.size > max) {
        texts.push(`${file.name} is too large. A file may have up to ${sizeText(max)}.`);
      } else if (room === 0) {
        texts.push(`${file.name} was not attached: a message may have up to ${ATTACHMENTS_MAX} files.`);
      } else {
        room -= 1;
        const key = this.#store.newKey();
        this.#store.keepFile(key, file);
        added.push(this.#create(key, roomId, file));
      }
    }
    this.refusal = { roomId, texts };
    this.all = [...this.all, ...added];
    this.#save();
    this.#startNext();
  }

  cancel(upload: Upload) {
    this.remove([upload]);
    upload.cancel();
  }

  /** Takes uploads off the list: their files are sent with a message. */
  remove(uploads: readonly Upload[]) {
    this.all = this.all.filter((one) => !uploads.includes(one));
    for (const { key } of uploads) this.#store.removeFile(key);
    this.#save();
    this.clearRefusal();
  }

  clearRefusal() {
    this.refusal = { roomId: '', texts: [] };
  }

  /** There is a connection and a session: everything continues. */
  open(user: string) {
    if (this.#user !== user) {
      if (this.#user) this.discard();
      this.#user = user;
      this.#restore();
    }
    for (const upload of this.all) upload.unpause();
    for (const upload of this.all) upload.resume();
  }

  /** The session has ended. */
  pause() {
    for (const upload of this.all) upload.pause();
  }

  /** The user has logged out, or another one has logged in. */
  discard() {
    const all = this.all;
    this.remove(all);
    for (const upload of all) upload.drop();
  }

  #create(key: string, roomId: string, source: Source): Upload {
    const upload = new Upload(key, roomId, source, this.#calls, () => {
      if (upload.phase === 'done') this.#store.removeFile(key);
      this.#save();
      this.#startNext();
    });
    return upload;
  }

  #save() {
    const uploads = this.all.map(({ key, roomId, name, type, size, progress }) => ({ key, room: roomId, name, type, size, ...progress }));
    const stored: Stored = { user: this.#user, uploads };
    this.#store.save(uploads.length > 0 ? JSON.stringify(stored) : '');
  }

  /** Continues what an earlier page of this tab has begun. */
  #restore() {
    this.#store.removeOld();
    const stored = storedIn(this.#store.load());
    if (!stored) return;
    const { user, uploads } = stored;
    if (user !== this.#user) {
      for (const { key } of uploads) this.#store.removeFile(key);
    } else {
      this.all = uploads.map((stored) => {
        const upload = this.#create(stored.key, stored.room, this.#sourceOf(stored));
        upload.continueFrom(stored);
        return upload;
      });
    }
    this.#save();
    this.#startNext();
  }

  #sourceOf({ key, name, type, size }: StoredUpload): Source {
    let file: Promise<Blob> | undefined;
    const slice = (start: number, end: number) => ({
      arrayBuffer: async () => (await (file ??= this.#store.file(key))).slice(start, end).arrayBuffer(),
    });
    return { name, type, size, slice };
  }

  #startNext() {
    for (const upload of this.all) {
      // Counted anew: a start reports itself.
      if (this.all.filter((one) => one.isActive).length >= ACTIVE_MAX) return;
      if (upload.phase === 'queued') void upload.run();
    }
  }
}
