// What survives a reload, in the browser's storage: drafts, messages being sent, uploads, the last room. Never a
// credential. Storage may be disabled or full; then this state lasts as long as the page.
const PREFIX = 'chatto:';

/** The files that are being uploaded; see `kept-uploads`. */
export const FILES_DATABASE = 'chatto';

/** `sessionStorage` belongs to one tab. */
type Place = 'localStorage' | 'sessionStorage';

export function read(key: string, place: Place = 'localStorage'): string {
  try {
    return window[place].getItem(PREFIX + key) ?? '';
  } catch {
    return '';
  }
}

/** The empty text removes the entry. */
export function write(key: string, value: string, place: Place = 'localStorage') {
  try {
    if (value) window[place].setItem(PREFIX + key, value);
    else window[place].removeItem(PREFIX + key);
  } catch {
    // Disabled or full.
  }
}

/** Removes what `kept-uploads` keeps. */
export function forgetUploads() {
  write('uploads', '', 'sessionStorage');
  try {
    indexedDB.deleteDatabase(FILES_DATABASE);
  } catch {
    // Disabled.
  }
}

const HIDDEN_NOTICES = 'hidden-notices';
/** More notices than there can be at a time, some days of them. */
const HIDDEN_NOTICES_MAX = 50;

/** The notices for owners that were hidden in this tab. */
export function hiddenNotices(): readonly string[] {
  return read(HIDDEN_NOTICES, 'sessionStorage').split('\n').filter((key) => key !== '');
}

/** Hides a notice in this tab; its key is one line. Returns those that are hidden. */
export function hideNotice(key: string): readonly string[] {
  const hidden = [...hiddenNotices().filter((one) => one !== key), key].slice(-HIDDEN_NOTICES_MAX);
  write(HIDDEN_NOTICES, hidden.join('\n'), 'sessionStorage');
  return hidden;
}

/** Shows all notices again. */
export const forgetHiddenNotices = () => write(HIDDEN_NOTICES, '', 'sessionStorage');

export function keys(start: string): string[] {
  try {
    return Object.keys(localStorage)
      .filter((key) => key.startsWith(PREFIX + start))
      .map((key) => key.slice(PREFIX.length));
  } catch {
    return [];
  }
}

/** Calls `onChange` for each change made by another tab. Returns a function that stops it. */
export function watch(onChange: (key: string, value: string) => void): () => void {
  const onStorage = (event: StorageEvent) => {
    if (event.key?.startsWith(PREFIX)) onChange(event.key.slice(PREFIX.length), event.newValue ?? '');
  };
  window.addEventListener('storage', onStorage);
  return () => window.removeEventListener('storage', onStorage);
}
