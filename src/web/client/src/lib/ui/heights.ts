// Heights of a long list of which only a part is drawn: measured for items that were drawn once, else estimated.
// All lengths are CSS pixels.

export interface ListItem {
  key: string;
  /** Used until the item is measured. */
  estimatedHeight: number;
}

/** Measured heights kept for items that left the list: people scroll back. */
const MEASURED_MAX = 4_000;

export class Heights {
  #items: readonly ListItem[] = [];
  /** Where each item begins, and where the last one ends. */
  #offsets = new Float64Array(1);
  #indexes = new Map<string, number>();
  #measured = new Map<string, number>();

  get length(): number {
    return this.#items.length;
  }

  get total(): number {
    return this.#offsets[this.#items.length] ?? 0;
  }

  setItems(items: readonly ListItem[]) {
    this.#items = items;
    this.#indexes = new Map(items.map((item, index) => [item.key, index]));
    if (this.#measured.size > MEASURED_MAX) {
      for (const key of this.#measured.keys()) if (!this.#indexes.has(key)) this.#measured.delete(key);
    }
    this.#addUp();
  }

  /** Stores measured heights by key. Returns `false` when all of them were known. */
  measure(heights: Iterable<readonly [string, number]>): boolean {
    let hasChanged = false;
    for (const [key, height] of heights) {
      if (Math.abs((this.#measured.get(key) ?? -1) - height) < 0.01) continue;
      this.#measured.set(key, height);
      hasChanged = true;
    }
    if (hasChanged) this.#addUp();
    return hasChanged;
  }

  /** Drops every measured height: they were taken at another width. */
  invalidate() {
    this.#measured.clear();
    this.#addUp();
  }

  /** Where the item at an index begins; the end of the list for an index after the last. */
  offsetOf(index: number): number {
    return this.#offsets[Math.max(0, Math.min(index, this.#items.length))] ?? 0;
  }

  /** -1 when the list has no item with this key. */
  indexOf(key: string): number {
    return this.#indexes.get(key) ?? -1;
  }

  keyAt(index: number): string | undefined {
    return this.#items[index]?.key;
  }

  /** The index of the first item that ends below `offset`, or of the last item. */
  indexAt(offset: number): number {
    let low = 0;
    let high = Math.max(0, this.#items.length - 1);
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.offsetOf(middle + 1) > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #addUp() {
    const offsets = new Float64Array(this.#items.length + 1);
    this.#items.forEach((item, index) => {
      offsets[index + 1] = (offsets[index] ?? 0) + (this.#measured.get(item.key) ?? item.estimatedHeight);
    });
    this.#offsets = offsets;
  }
}
