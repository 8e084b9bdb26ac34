import { HttpError, listOwnerNotices, type OwnerNotice } from '../api/auth';

/** Backups are made once a day: sooner is not needed. */
const EVERY_MS = 15 * 60_000;

/** What owners should act on. */
export class OwnerNotices {
  list = $state.raw<readonly OwnerNotice[]>([]);
  /** There has been one: only then the part that shows them is loaded. */
  isNeeded = $state(false);

  async #load() {
    if (document.visibilityState === 'hidden') return;
    try {
      this.list = await listOwnerNotices();
      this.isNeeded ||= this.list.length > 0;
    } catch (error) {
      // Whoever is no owner any more sees nothing. What cannot be loaded now is loaded next time.
      if (error instanceof HttpError && error.status === 403) this.list = [];
    }
  }

  /** Loads them now and from time to time; returns what ends that. */
  watch() {
    const load = () => void this.#load();
    load();
    const timer = setInterval(load, EVERY_MS);
    document.addEventListener('visibilitychange', load);
    return () => {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', load);
    };
  }
}
