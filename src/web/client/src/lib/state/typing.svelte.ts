// Who is typing in a room, and notices that the viewer is (contract, behaviour 5.5).
import { rooms } from '../api/client';

const SHOWN_MS = 6_000;
const NOTIFY_EVERY_MS = 2_000;

export class Typists {
  ids = $state.raw<readonly string[]>([]);
  #timers = new Map<string, ReturnType<typeof setTimeout>>();
  #notifiedAt = 0;

  /** A typing notice came. */
  add(id: string) {
    clearTimeout(this.#timers.get(id));
    this.#timers.set(id, setTimeout(() => this.remove(id), SHOWN_MS));
    if (!this.ids.includes(id)) this.ids = [...this.ids, id];
  }

  remove(id: string) {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
    if (this.ids.includes(id)) this.ids = this.ids.filter((one) => one !== id);
  }

  /** Notifies the room that the viewer is typing. A lost notice does no harm. */
  notify(roomId: string) {
    const now = performance.now();
    if (this.#notifiedAt && now - this.#notifiedAt < NOTIFY_EVERY_MS) return;
    this.#notifiedAt = now;
    rooms.updateTypingIndicator({ roomId }).catch(() => {});
  }
}
