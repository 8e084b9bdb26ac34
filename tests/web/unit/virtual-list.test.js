// The virtual list without a browser: a scroller of numbers stands for the element.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clientModule } from '../support/client.js';

const { Heights } = await clientModule('lib/ui/heights.ts');
const { VirtualList } = await clientModule('lib/ui/virtual-list.svelte.ts');

const ESTIMATE_PX = 40;
const VIEWPORT_PX = 600;

const item = (n) => ({ key: `item ${n}`, estimatedHeight: ESTIMATE_PX });
const items = (from, to) => Array.from({ length: to - from }, (_, n) => item(from + n));

/** Numbers that a seed repeats (mulberry32). */
function random(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return Math.floor((((x ^ (x >>> 14)) >>> 0) / 4_294_967_296) * below);
  };
}

/** What `Scroller.svelte` and the browser do: draws the range, measures it, rounds scroll positions. */
class Screen {
  top = 0;
  isEndLoaded = true;
  drawn = { start: 0, end: 0 };
  list = new VirtualList(() => this.isEndLoaded);

  constructor(shown, heightOf = () => ESTIMATE_PX, step = 1) {
    this.heightOf = heightOf;
    /** Positions are multiples of this: a browser has whole device pixels. */
    this.step = step;
    this.list.viewportHeight = VIEWPORT_PX;
    this.set(shown);
  }

  set(shown) {
    this.items = shown;
    this.list.setItems(shown);
    this.draw();
  }

  draw() {
    // A few rounds: what is lower than estimated leaves room for more.
    for (let round = 0; round < 20; round += 1) {
      this.drawn = this.list.range();
      this.place();
      const measured = this.items.slice(this.drawn.start, this.drawn.end).map(({ key }) => [key, this.heightOf(key)]);
      if (!this.list.measure(measured) && this.list.covers(this.drawn)) return;
      this.place();
    }
    assert.fail('drawing does not settle');
  }

  place() {
    const target = this.list.targetScrollTop;
    if (Math.abs(this.top - target) > 0.5) this.top = Math.round(target / this.step) * this.step;
    this.list.placed(target, this.top);
  }

  /** Somebody scrolls, within what there is. */
  scroll(by) {
    this.top = Math.max(0, Math.min(this.total - this.list.viewportHeight, this.top + by));
    this.list.scrolledTo(this.top);
    if (!this.list.covers(this.drawn)) this.draw();
  }

  get total() {
    return this.list.distanceToEnd(this.items[0]?.key);
  }

  /** Where an item begins, from the upper edge. */
  placeOf(key) {
    return this.total - this.list.distanceToEnd(key) - this.top;
  }

  get isAtVeryEnd() {
    return Math.abs(this.total - this.list.viewportHeight - this.top) <= this.step;
  }
}

test('heights: estimates count until items are measured', () => {
  const heights = new Heights();
  heights.setItems(items(0, 10));
  assert.equal(heights.total, 10 * ESTIMATE_PX);
  assert.equal(heights.measure([['item 3', 100]]), true);
  assert.equal(heights.measure([['item 3', 100.001]]), false, 'nothing new');
  assert.equal(heights.total, 9 * ESTIMATE_PX + 100);
  assert.deepEqual([0, 3, 4, 10, 99, -1].map((index) => heights.offsetOf(index)), [0, 120, 220, 460, 460, 0]);
  assert.deepEqual([-5, 0, 39, 40, 219, 220, 459, 460, 999].map((offset) => heights.indexAt(offset)), [0, 0, 0, 1, 3, 4, 9, 9, 9]);
  assert.deepEqual([heights.indexOf('item 4'), heights.indexOf('nobody'), heights.keyAt(4), heights.keyAt(10)], [4, -1, 'item 4', undefined]);
  heights.invalidate();
  assert.equal(heights.total, 10 * ESTIMATE_PX);
});

test('heights: an item that comes back has the height that was measured, within a bound', () => {
  const heights = new Heights();
  heights.setItems(items(0, 5_000));
  heights.measure(items(0, 5_000).map(({ key }) => [key, 50]));
  heights.setItems(items(4_000, 5_000));
  heights.setItems(items(0, 5_000));
  assert.equal(heights.total, 1_000 * 50 + 4_000 * ESTIMATE_PX, 'too many were known: those that had left were dropped');
  heights.setItems(items(2_000, 3_000));
  heights.setItems(items(4_000, 5_000));
  assert.equal(heights.total, 1_000 * 50);
  assert.equal(new Heights().indexAt(0), 0);
});

test('the end stays on screen: more items, other heights, another window', () => {
  const heights = new Map();
  const screen = new Screen(items(0, 200), (key) => heights.get(key) ?? 70);
  assert.ok(screen.list.isAtEnd && screen.isAtVeryEnd);
  screen.set(items(0, 203));
  assert.ok(screen.isAtVeryEnd);
  heights.set('item 202', 400);
  screen.draw();
  assert.ok(screen.isAtVeryEnd);
  screen.list.viewportHeight = 200;
  screen.draw();
  assert.ok(screen.isAtVeryEnd);
  screen.set(items(150, 203));
  assert.ok(screen.isAtVeryEnd, 'items were dropped in front');
});

test('a list that is shorter than the window rests at 0', () => {
  const screen = new Screen(items(0, 3));
  assert.deepEqual([screen.top, screen.list.targetScrollTop, screen.list.isAtEnd], [0, 0, true]);
  assert.deepEqual(screen.list.range(), { start: 0, end: 3, heightBefore: 0, heightAfter: 0 });
  assert.ok(screen.list.isNearStart && screen.list.isNearEnd);
});

test('an empty list draws nothing', () => {
  const screen = new Screen([]);
  assert.deepEqual(screen.list.range(), { start: 0, end: 0, heightBefore: 0, heightAfter: 0 });
  screen.list.scrolledTo(50);
  screen.set(items(0, 50));
  assert.ok(screen.isAtVeryEnd);
});

test('who scrolls away leaves the end, who comes within 32 pixels follows it again', () => {
  const screen = new Screen(items(0, 200));
  screen.scroll(-33);
  assert.equal(screen.list.isAtEnd, false);
  screen.set(items(0, 201));
  assert.equal(screen.isAtVeryEnd, false);
  screen.scroll(ESTIMATE_PX + 1);
  assert.equal(screen.list.isAtEnd, true);
  screen.place();
  assert.ok(screen.isAtVeryEnd);
  // What the browser reports after the position was set is nobody's scrolling.
  screen.list.scrolledTo(screen.top);
  assert.equal(screen.list.isAtEnd, true);
});

test('an end that is not loaded is not followed', () => {
  const screen = new Screen(items(0, 200));
  screen.isEndLoaded = false;
  screen.list.show('item 190', 100);
  screen.draw();
  screen.scroll(-1_000);
  screen.scroll(10_000);
  assert.deepEqual([screen.list.isFollowing, screen.list.isAtEnd], [true, false]);
  const before = screen.placeOf('item 190');
  screen.set(items(0, 250));
  assert.equal(screen.placeOf('item 190'), before, 'the next page comes below what is read');
  screen.isEndLoaded = true;
  screen.place();
  assert.ok(screen.isAtVeryEnd);
});

test('the anchor keeps its place: items come and go at both ends, heights change around it', () => {
  const heights = new Map();
  const screen = new Screen(items(1_000, 1_400), (key) => heights.get(key) ?? 55);
  screen.list.show('item 1200', 200);
  screen.draw();
  assert.equal(screen.placeOf('item 1200'), 200);
  for (const [from, to] of [[900, 1_400], [900, 1_300], [1_100, 1_500], [0, 10_000], [1_150, 1_250]]) {
    screen.set(items(from, to));
    assert.equal(screen.placeOf('item 1200'), 200, `items ${from} to ${to}`);
  }
  heights.set('item 1198', 5).set('item 1199', 500).set('item 1201', 9);
  screen.draw();
  assert.equal(screen.placeOf('item 1200'), 200);
  assert.equal(screen.list.isAtEnd, false);
});

test('at another width everything is measured again, and the anchor keeps its place', () => {
  const screen = new Screen(items(0, 400), () => 50);
  screen.list.show('item 200', 100);
  screen.draw();
  screen.heightOf = () => 90;
  screen.list.remeasure(screen.items.slice(screen.drawn.start, screen.drawn.end).map(({ key }) => [key, 90]));
  screen.place();
  assert.equal(screen.placeOf('item 200'), 100);
  const drawn = screen.drawn.end - screen.drawn.start;
  assert.equal(screen.total, drawn * 90 + (400 - drawn) * ESTIMATE_PX, 'former heights do not count');
  screen.draw();
  assert.equal(screen.placeOf('item 200'), 100);
});

test('what the browser rounds is nobody’s scrolling', () => {
  const screen = new Screen(items(0, 400), () => 50, 0.01);
  screen.list.show('item 200', 100);
  screen.draw();
  screen.list.scrolledTo(screen.top - 0.9);
  screen.place();
  assert.equal(screen.placeOf('item 200'), 100);
});

test('the anchor is the first item that begins on the upper half, else the one at the upper edge', () => {
  const heights = new Map([['item 200', 299], ['item 210', 301]]);
  const screen = new Screen(items(0, 400), (key) => heights.get(key) ?? 50);
  for (const [edge, next] of [['item 200', 'item 201'], ['item 210', 'item 211']]) {
    screen.list.show(edge, 0);
    screen.draw();
    screen.scroll(-50);
    screen.scroll(51);
    heights.set(edge, 400);
    const [before, nextBefore] = [screen.placeOf(edge), screen.placeOf(next)];
    screen.draw();
    if (nextBefore < VIEWPORT_PX / 2) assert.equal(screen.placeOf(next), nextBefore);
    else assert.equal(screen.placeOf(edge), before);
  }
});

test('an anchor that left the list leaves the scroll position as it is', () => {
  const screen = new Screen(items(0, 400));
  screen.list.show('item 100', 0);
  screen.draw();
  screen.set(items(200, 400));
  assert.equal(screen.top, 100 * ESTIMATE_PX);
});

test('an item near an end is shown as far as there is something to scroll', () => {
  const screen = new Screen(items(0, 100));
  screen.list.show('item 1', 300);
  screen.draw();
  assert.equal(screen.top, 0);
  screen.list.show('item 99', 100);
  screen.draw();
  assert.ok(screen.isAtVeryEnd);
  assert.equal(screen.list.isAtEnd, false);
  screen.list.scrolledTo(screen.top);
  assert.equal(screen.list.isAtEnd, true, 'the item that was asked for is at the end');
});

test('until somebody scrolls or asks for an item, the first one is the anchor', () => {
  const screen = new Screen(items(0, 400));
  screen.list.stopFollowing();
  screen.draw();
  assert.equal(screen.placeOf('item 0'), 0);
});

test('drawn is what is on screen and a margin; another range when little of it is left', () => {
  const screen = new Screen(items(0, 1_000));
  screen.list.show('item 500', 0);
  screen.draw();
  const { start, end, heightBefore, heightAfter } = screen.drawn;
  assert.deepEqual([start, end], [500 - 23, 500 + 38]);
  assert.deepEqual([heightBefore, heightAfter], [start * ESTIMATE_PX, (1_000 - end) * ESTIMATE_PX]);
  for (const [by, covers] of [[0, true], [600, true], [40, false], [-1_250, true], [-20, false]]) {
    screen.top += by;
    screen.list.scrolledTo(screen.top);
    assert.equal(screen.list.covers(screen.drawn), covers, `at ${screen.top}`);
  }
  assert.deepEqual([screen.list.isNearStart, screen.list.isNearEnd], [false, false]);
  screen.scroll(-50_000);
  assert.equal(screen.list.isNearStart, true);
  screen.scroll(50_000);
  assert.equal(screen.list.isNearEnd, true);
});

test('ten thousand items of any height: nothing drifts, whatever device pixels round', () => {
  for (const step of [1, 0.5, 2 / 3, 0.01]) {
    const next = random(7);
    const heights = Array.from({ length: 10_000 }, () => 20 + next(60_000) / 100);
    const screen = new Screen(items(0, 10_000), (key) => heights[Number(key.slice(5))], step);
    screen.list.show('item 5000', 200);
    screen.draw();
    const begun = screen.placeOf('item 5000');
    for (let n = 0; n < 400; n += 1) screen.scroll(-240);
    assert.ok(screen.placeOf('item 5000') > 90_000);
    for (let n = 0; n < 400; n += 1) screen.scroll(240);
    const drift = Math.abs(screen.placeOf('item 5000') - begun);
    assert.ok(drift <= 1, `${drift} px, device pixels of ${step}`);
  }
});

test('whatever happens in between, a row on screen moves only with who scrolls', () => {
  let checked = 0;
  for (let seed = 1; seed <= 30; seed += 1) {
    const next = random(seed);
    const heights = new Map();
    const heightOf = (key) => heights.get(key) ?? heights.set(key, 15 + next(500)).get(key);
    let [from, to] = [5_000, 5_100];
    const screen = new Screen(items(from, to), heightOf);
    screen.isEndLoaded = false;
    screen.list.show('item 5050', 250);
    screen.draw();
    for (let n = 0; n < 150; n += 1) {
      // Somewhere in what is drawn, so that neither end is in the way.
      const middle = Math.floor((screen.drawn.start + screen.drawn.end) / 2);
      screen.list.show(screen.items[middle].key, next(VIEWPORT_PX));
      screen.draw();
      screen.scroll(next(2) && next(900) - 450);
      const index = screen.items.findIndex(({ key }) => screen.placeOf(key) >= 0);
      const { key } = screen.items[index];
      // At an end there is nothing left to scroll that could make up for a change.
      const isFree = () => screen.top > 0 && screen.top < screen.total - screen.list.viewportHeight;
      if (!isFree() || index < 2) continue;
      const before = screen.placeOf(key);
      const change = next(5);
      if (change === 0) from -= 50;
      else if (change === 1) to += 50;
      else if (change === 2 && index > 70) from += 50;
      else if (change === 3 && index < screen.items.length - 70) to -= 50;
      // Not the one that reaches into the screen: it may push away what is below it.
      else if (change === 4) heights.set(screen.items[Math.max(0, index - 2 - next(4))].key, 15 + next(500));
      screen.set(items(from, to));
      if (!isFree()) continue;
      checked += 1;
      const moved = Math.abs(screen.placeOf(key) - before);
      assert.ok(moved <= 1, `seed ${seed}, step ${n}, change ${change}: ${key} moved by ${moved} px`);
    }
  }
  assert.ok(checked > 2_000, `${checked} changes were checked`);
});
