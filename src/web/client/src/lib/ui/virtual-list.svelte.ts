// A long list of which only the part on screen is drawn: where the scroll position has to be, and which items to
// draw. It knows no element: `Scroller.svelte` draws, measures and scrolls. All lengths are CSS pixels.
//
// While the list follows its end, the last item stays at the lower edge. Otherwise one item, the anchor, keeps its
// distance from the upper edge, whatever changes around it: measured heights replace estimates, older items are
// put in front, items at either end are dropped.
import { untrack } from 'svelte';
import { Heights, type ListItem } from './heights';

/** Drawn above and below what is on screen, so that not every frame of a scroll draws items. */
const MARGIN_PX = 900;
/** When less than this is left of the margin, another range is drawn. */
const MARGIN_MIN_PX = 300;
/** Closer to an end than this, the next page should be on its way. */
const NEAR_PX = 1_600;
/** Scrolling to within this distance of the end makes the list follow it. */
const FOLLOW_PX = 32;

/** The items to draw, by index, and the heights of what is left out. */
export interface DrawnRange {
  start: number;
  /** One after the last. */
  end: number;
  heightBefore: number;
  heightAfter: number;
}

interface Anchor {
  key: string;
  /** How far below the upper edge the item begins; negative above it. */
  offset: number;
}

export class VirtualList {
  viewportHeight = 600;
  #isEndLoaded: () => boolean;
  #heights = new Heights();
  #isFollowing = $state(true);
  /** Raised to have another range drawn. */
  #redraws = $state(0);
  /** The first item until somebody scrolls. */
  #anchor: Anchor | undefined;
  /** As the browser had it last. */
  #scrollTop = 0;
  /** What the browser rounded off when it was set. Without it, each turn of the wheel would add to the error. */
  #remainder = 0;

  /** `isEndLoaded`: whether the last item is the last there is. Only such an end is followed. */
  constructor(isEndLoaded: () => boolean) {
    this.#isEndLoaded = isEndLoaded;
  }

  /** Whether the end of what is loaded was scrolled to, or asked for with `followEnd`. */
  get isFollowing(): boolean {
    return this.#isFollowing;
  }

  /** Whether the end stays on screen as the list grows. */
  get isAtEnd(): boolean {
    return this.#isFollowing && this.#isEndLoaded();
  }

  get isNearStart(): boolean {
    return this.#scrollTop < NEAR_PX;
  }

  get isNearEnd(): boolean {
    return this.#heights.total - this.#scrollTop - this.viewportHeight < NEAR_PX;
  }

  /** The scroll position at which the end, or the anchor, is where it belongs. */
  get targetScrollTop(): number {
    if (this.isAtEnd) return this.#lastScrollTop;
    const { key, offset } = this.#anchor ?? { key: '', offset: 0 };
    const index = this.#heights.indexOf(key);
    if (index < 0) return this.#scrollTop;
    return Math.max(0, Math.min(this.#lastScrollTop, this.#heights.offsetOf(index) - offset));
  }

  get #lastScrollTop(): number {
    return Math.max(0, this.#heights.total - this.viewportHeight);
  }

  setItems(items: readonly ListItem[]) {
    this.#heights.setItems(items);
    const first = items[0];
    if (first) this.#anchor ??= { key: first.key, offset: 0 };
  }

  /** Takes measured heights by key. Returns whether the scroll position has to be set again. */
  measure(heights: Iterable<readonly [string, number]>): boolean {
    return this.#heights.measure(heights);
  }

  /** Takes the heights of what is drawn after the width has changed; all others are estimates again. */
  remeasure(heights: Iterable<readonly [string, number]>) {
    this.#heights.invalidate();
    this.#heights.measure(heights);
  }

  /** To be called after the scroll position was set to `target`, which the browser rounded to `actual`. */
  placed(target: number, actual: number) {
    this.#scrollTop = actual;
    this.#remainder = Math.abs(target - actual) < 1 ? target - actual : 0;
  }

  /** To be called with each scroll position that the browser reports. One that was not set from here is scrolling. */
  scrolledTo(top: number) {
    const last = this.#lastScrollTop;
    if (Math.abs(top - this.#scrollTop) > 1) {
      this.#scrollTop = top;
      this.#anchorAt(top + this.#remainder);
      this.#isFollowing = top >= last - FOLLOW_PX;
    } else if (top >= last - 1 && this.targetScrollTop >= last - 1) {
      // The item that `show` asked for turned out to be at the end.
      this.#isFollowing = true;
    }
  }

  /** The range to draw now. An effect that calls this runs again after `redraw`, not after each scroll. */
  range(): DrawnRange {
    void this.#redraws;
    const top = untrack(() => this.targetScrollTop);
    const heights = this.#heights;
    const start = heights.indexAt(top - MARGIN_PX);
    const end = Math.min(heights.length, heights.indexAt(top + this.viewportHeight + MARGIN_PX) + 1);
    return { start, end, heightBefore: heights.offsetOf(start), heightAfter: heights.total - heights.offsetOf(end) };
  }

  /** Whether a range still reaches far enough beyond what is on screen. */
  covers({ start, end }: DrawnRange): boolean {
    const heights = this.#heights;
    const above = this.#scrollTop - heights.offsetOf(start);
    const below = heights.offsetOf(end) - this.#scrollTop - this.viewportHeight;
    return (start === 0 || above >= MARGIN_MIN_PX) && (end >= heights.length || below >= MARGIN_MIN_PX);
  }

  redraw() {
    this.#redraws += 1;
  }

  followEnd() {
    this.#isFollowing = true;
    this.redraw();
  }

  stopFollowing() {
    this.#isFollowing = false;
  }

  /** Brings an item to `offset` below the upper edge and keeps it there. */
  show(key: string, offset: number) {
    this.#isFollowing = false;
    this.#anchor = { key, offset };
    this.redraw();
  }

  /** From where an item begins to the end of the list. */
  distanceToEnd(key: string): number {
    return this.#heights.total - this.#heights.offsetOf(this.#heights.indexOf(key));
  }

  /** The first item that begins on the upper half of the screen; if none does, the one at the upper edge. */
  #anchorAt(top: number) {
    const heights = this.#heights;
    let index = heights.indexAt(top);
    const next = heights.offsetOf(index + 1);
    if (heights.offsetOf(index) < top && next < top + this.viewportHeight / 2 && index + 1 < heights.length) index += 1;
    const key = heights.keyAt(index);
    if (key !== undefined) this.#anchor = { key, offset: heights.offsetOf(index) - top };
  }
}
