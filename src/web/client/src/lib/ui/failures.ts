// Pictures that could not be loaded. Their rows are drawn again and again while somebody scrolls; that does not repeat
// the attempt for a minute.
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
