// What survives a reload, in the browser's local storage: drafts, messages being sent, the last room. Never a
// credential. Storage may be disabled or full; then this state lasts as long as the page.
const PREFIX = 'chatto:';

export function read(key: string): string {
  try {
    return localStorage.getItem(PREFIX + key) ?? '';
  } catch {
    return '';
  }
}

/** The empty text removes the entry. */
export function write(key: string, value: string) {
  try {
    if (value) localStorage.setItem(PREFIX + key, value);
    else localStorage.removeItem(PREFIX + key);
  } catch {
    // Disabled or full.
  }
}

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
