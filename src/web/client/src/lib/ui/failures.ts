// Files that could not be shown. Their rows have the wrong height until that is known, so drawing a row again does not
// repeat the attempt at once.
const RETRY_MS = 60_000;
const KEPT_MAX = 500;

export class Failures {
  #failedAt = new Map<string, number>();

  add(id: string) {
    if (this.#failedAt.size >= KEPT_MAX) this.#failedAt.clear();
    this.#failedAt.set(id, Date.now());
  }

  has(id: string): boolean {
    return Date.now() - (this.#failedAt.get(id) ?? 0) < RETRY_MS;
  }
}
