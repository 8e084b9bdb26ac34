// Heights of a long list of which only a part is drawn: measured where something was drawn once, else estimated.

export interface Piece {
  key: string;
  /** Height to expect before it is measured. */
  estimate: number;
}

/** Measured heights kept for pieces that left the list: people scroll back. */
const REMEMBERED_MAX = 4_000;

export class Strip {
  #pieces: readonly Piece[] = [];
  #tops = new Float64Array(1);
  #indexes = new Map<string, number>();
  #known = new Map<string, number>();

  get length(): number {
    return this.#pieces.length;
  }

  get total(): number {
    return this.#tops[this.#pieces.length] ?? 0;
  }

  set(pieces: readonly Piece[]) {
    this.#pieces = pieces;
    this.#indexes = new Map(pieces.map((piece, index) => [piece.key, index]));
    if (this.#known.size > REMEMBERED_MAX) {
      for (const key of this.#known.keys()) if (!this.#indexes.has(key)) this.#known.delete(key);
    }
    this.#add();
  }

  /** Measured heights; `false` when all of them were known. */
  measure(heights: Iterable<readonly [string, number]>): boolean {
    let isNews = false;
    for (const [key, height] of heights) {
      if (Math.abs((this.#known.get(key) ?? -1) - height) < 0.01) continue;
      this.#known.set(key, height);
      isNews = true;
    }
    if (isNews) this.#add();
    return isNews;
  }

  /** Forgets what was measured at another width. */
  forget() {
    this.#known.clear();
    this.#add();
  }

  /** Where the piece at an index begins; the end of all for the index after the last. */
  top(index: number): number {
    return this.#tops[Math.max(0, Math.min(index, this.#pieces.length))] ?? 0;
  }

  indexOf(key: string): number {
    return this.#indexes.get(key) ?? -1;
  }

  key(index: number): string | undefined {
    return this.#pieces[index]?.key;
  }

  /** The first piece that ends below `y`. */
  at(y: number): number {
    let low = 0;
    let high = Math.max(0, this.#pieces.length - 1);
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.top(middle + 1) > y) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #add() {
    const tops = new Float64Array(this.#pieces.length + 1);
    this.#pieces.forEach((piece, index) => {
      tops[index + 1] = (tops[index] ?? 0) + (this.#known.get(piece.key) ?? piece.estimate);
    });
    this.#tops = tops;
  }
}
