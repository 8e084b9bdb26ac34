// What survives a reload of the uploads of this tab: their progress in the tab's storage, the bytes that the server does
// not have yet in the browser's database. Both may be disabled or full; then uploads end with the page.
import { FILES_DATABASE, read, write } from './storage';
import type { UploadStore } from './uploads.svelte';

const FILES = 'files';
/** The server has dropped unfinished uploads by then. Files of closed tabs remain so long. */
const KEPT_MS = 24 * 3_600_000;

function open(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(FILES_DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(FILES);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

type Action<T> = (files: IDBObjectStore) => IDBRequest<T>;

async function run<T>(mode: IDBTransactionMode, action: Action<T>): Promise<T> {
  const database = await open();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction(FILES, mode);
      const request = action(transaction.objectStore(FILES));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error);
    });
  } finally {
    // An open database could not be deleted at the log-out.
    database.close();
  }
}

let lastChange: Promise<unknown> = Promise.resolve();

/** Changes are made one after the other, so that a file that is removed at once does not remain. */
function change<T>(action: Action<T>) {
  lastChange = lastChange.then(() => run('readwrite', action)).catch(() => {});
}

export const keptUploads: UploadStore = {
  load: () => read('uploads', 'sessionStorage'),
  save: (text) => write('uploads', text, 'sessionStorage'),
  newKey: () => `${Date.now()}-${Math.random().toString(36).slice(2)}`,
  keepFile: (key, file) => change((files) => files.put(file, key)),
  file: (key) => run<Blob>('readonly', (files) => files.get(key)),
  removeFile: (key) => change((files) => files.delete(key)),
  removeOld: () => change((files) => files.delete(IDBKeyRange.upperBound(String(Date.now() - KEPT_MS)))),
};
