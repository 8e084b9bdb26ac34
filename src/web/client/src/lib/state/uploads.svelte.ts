// The files that the user attaches: those of all rooms, because uploads continue while another room is on screen. They
// end with the page, and are discarded when another user logs in.
import { ATTACHMENTS_MAX } from '../limits';
import { Upload, type Source, type UploadCalls } from './upload.svelte';
import { sizeText } from './sizes';

/** Uploads that run at the same time. */
const ACTIVE_MAX = 2;

/** Why files were not attached. */
export interface Refusal {
  roomId: string;
  texts: readonly string[];
}

export class Uploads {
  all = $state.raw<readonly Upload[]>([]);
  refusal = $state.raw<Refusal>({ roomId: '', texts: [] });
  #calls: UploadCalls;
  #maxBytes: () => number;
  #user = '';
  #lastKey = 0;

  /** `maxBytes` returns 0 while the server's limit is not known. */
  constructor(calls: UploadCalls, maxBytes: () => number) {
    this.#calls = calls;
    this.#maxBytes = maxBytes;
  }

  inRoom(roomId: string): readonly Upload[] {
    return this.all.filter((one) => one.roomId === roomId);
  }

  /** Starts uploads to a room. Files that the server would reject are refused before anything is sent. */
  add(roomId: string, files: readonly Source[]) {
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
        this.#lastKey += 1;
        added.push(new Upload(this.#lastKey, roomId, file, this.#calls, () => this.#startNext()));
      }
    }
    this.refusal = { roomId, texts };
    this.all = [...this.all, ...added];
    this.#startNext();
  }

  cancel(upload: Upload) {
    this.remove([upload]);
    upload.cancel();
  }

  /** Takes uploads off the list: their files are sent with a message. */
  remove(uploads: readonly Upload[]) {
    this.all = this.all.filter((one) => !uploads.includes(one));
    this.clearRefusal();
  }

  clearRefusal() {
    this.refusal = { roomId: '', texts: [] };
  }

  /** There is a connection and a session: everything continues. */
  open(user: string) {
    if (this.#user && this.#user !== user) this.discard();
    this.#user = user;
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

  #startNext() {
    for (const upload of this.all) {
      // Counted anew: a start reports itself.
      if (this.all.filter((one) => one.isActive).length >= ACTIVE_MAX) return;
      if (upload.phase === 'queued') void upload.run();
    }
  }
}
