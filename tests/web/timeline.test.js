// A room of 10,000 messages of mixed height: jumped into, scrolled back and forth, followed live.
import assert from 'node:assert/strict';
import { scenario } from './support/fixture.js';
import { until, withinTarget } from './support/wait.js';

const MESSAGES = Number(process.env.WEB_TEST_MESSAGES ?? 10_000);
const PATIENCE_MS = 20_000;

function body(n) {
  switch (n % 10) {
    case 1:
      return `row ${n}\n\n\`\`\`\n${Array.from({ length: 3 + (n % 7) }, (_, line) => `let line_${line} = ${n};`).join('\n')}\n\`\`\``;
    case 2:
      return `row ${n} ${'a long sentence that wraps over several lines of the window, '.repeat(2 + (n % 9))}`;
    case 3:
      return `row ${n}\n- one\n- two\n  - three\n\n> quoted\n> twice`;
    case 4:
      return `row ${n} **bold** and \`code\` and https://example.org/${n}`;
    case 5:
      return `row ${n} ${'W'.repeat(200 + (n % 400))}`;
    default:
      return `row ${n}`;
  }
}

/** Fills a room through the API, in order as far as the server keeps it. */
async function fill(server, people, roomId, count) {
  let next = 0;
  await Promise.all(
    Array.from({ length: 24 }, async () => {
      while (next < count) {
        const n = next;
        next += 1;
        await server.post(people[Math.floor(n / 7) % people.length], roomId, body(n));
      }
    }),
  );
}

/** Where the rows on screen are, by their ids. */
const positions = (guest) =>
  guest.timeline.evaluate((scroller) => {
    const { top, bottom } = scroller.getBoundingClientRect();
    return [...scroller.querySelectorAll('.piece')]
      .map((node) => ({ key: node.dataset.key, at: node.getBoundingClientRect() }))
      .filter(({ at }) => at.bottom > top && at.top < bottom)
      .map(({ key, at }) => [key, at.top - top]);
  });

/** Waits until nothing moves any more. */
async function settle(guest) {
  let before = '';
  await until('the timeline rests', PATIENCE_MS, async () => {
    const now = JSON.stringify(await positions(guest));
    const rests = now === before && !(await guest.timeline.getByText('Loading earlier messages…').isVisible());
    before = now;
    return rests && now !== '[]';
  });
}

async function wheel(guest, by, times) {
  const box = await guest.timeline.boundingBox();
  await guest.page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  for (let n = 0; n < times; n += 1) {
    await guest.page.mouse.wheel(0, by);
    await guest.page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
  }
}

/** Time of script and layout in each frame of a trace, in milliseconds. */
function frames(events) {
  const main = events.find((one) => one.name === 'thread_name' && one.args.name === 'CrRendererMain');
  const work = new Set(['RunTask', 'ThreadControllerImpl::RunTask']);
  const own = events.filter((one) => one.ph === 'X' && one.tid === main.tid && one.pid === main.pid);
  const begun = own.filter((one) => one.name === 'FireAnimationFrame' || one.name === 'PageAnimator::serviceScriptedAnimations').map((one) => one.ts);
  const heavy = own.filter((one) => ['FunctionCall', 'EvaluateScript', 'RunMicrotasks', 'Layout', 'UpdateLayoutTree', 'EventDispatch', 'FireAnimationFrame', 'ResizeObserver', 'Layerize', 'PrePaint'].includes(one.name));
  // Nested pieces count once.
  heavy.sort((a, b) => a.ts - b.ts || b.dur - a.dur);
  const top = [];
  let end = 0;
  for (const one of heavy) {
    if (one.ts >= end) {
      top.push(one);
      end = one.ts + one.dur;
    }
  }
  void work;
  const sums = begun.map((ts, n) => {
    const until = begun[n + 1] ?? ts + 16_667;
    return top.filter((one) => one.ts >= ts && one.ts < until).reduce((sum, one) => sum + one.dur, 0) / 1000;
  });
  return sums.sort((a, b) => a - b);
}

scenario(
  'ten thousand messages: a link leads into them, scrolling drifts nowhere, memory stays flat',
  async ({ server, open, t }) => {
    const owner = await server.owner('ada', 'Ada');
    const people = [owner, await server.person(owner, 'bob', 'Bartholomew Maximilian Longnameso'.slice(0, 32)), await server.person(owner, 'cy', 'Cy')];
    let roomId;
    for (const person of people) roomId = await server.join(person, 'general');
    await fill(server, people, roomId, MESSAGES);

    const ada = await open();
    await ada.login('ada');
    await ada.timeline.locator('.message').last().waitFor();
    await settle(ada);

    // Into the middle by a link, as somebody else would send it.
    const middle = await oneInTheMiddle(server, owner, roomId);
    await ada.goto(`/chat/-/${roomId}/m/${middle}`);
    await ada.timeline.locator(`[data-key="${middle}"]`).waitFor();
    await settle(ada);
    const start = new Map(await positions(ada)).get(middle);
    assert.ok(start > 0 && start < 500, `the row is on screen, at ${start}`);
    await ada.page.getByRole('button', { name: 'Jump to present' }).waitFor();

    // Every frame: what is on screen moves exactly as far as the wheel says.
    await ada.timeline.evaluate((scroller) => {
      window.drifts = [];
      const look = () =>
        new Map(
          [...scroller.querySelectorAll('.piece')].map((node) => [node.dataset.key, node.getBoundingClientRect().top]),
        );
      let last = look();
      let top = scroller.scrollTop;
      let isOn = true;
      window.stopLooking = () => (isOn = false);
      const frame = () => {
        if (!isOn) return;
        const now = look();
        const moved = scroller.scrollTop - top;
        const deltas = [...now].filter(([key]) => last.has(key)).map(([key, y]) => last.get(key) - y);
        // All of them move alike; one that moves otherwise changed its place among the others.
        const spread = deltas.length ? Math.max(...deltas) - Math.min(...deltas) : 0;
        window.drifts.push({ spread, delta: deltas[0] ?? 0, moved });
        last = now;
        top = scroller.scrollTop;
        requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
    });
    const STEP = 240;
    const TIMES = 150;
    const before = await positions(ada);
    await wheel(ada, -STEP, TIMES);
    await settle(ada);
    const far = await positions(ada);
    assert.ok(!far.some(([key]) => before.some(([known]) => known === key)), 'it went far');
    await wheel(ada, STEP, TIMES);
    await settle(ada);
    const after = new Map(await positions(ada));
    const drifts = await ada.page.evaluate(() => (window.stopLooking(), window.drifts));
    const [key, at] = before.find(([one]) => after.has(one)) ?? [];
    assert.ok(key, 'back where it began');
    t.diagnostic(`drift after ${(2 * STEP * TIMES) / 1000}k px: ${Math.abs(after.get(key) - at).toFixed(2)} px`);
    assert.ok(Math.abs(after.get(key) - at) <= 1, `${key} was at ${at}, is at ${after.get(key)}`);
    const jumps = drifts.filter(({ delta }) => Math.abs(delta) > 3 * STEP);
    assert.deepEqual(jumps, [], 'no frame jumps');

    // Far back in time without a pause: frames stay short, memory flat, the DOM small.
    const cdp = await ada.context.newCDPSession(ada.page);
    const memory = async () => {
      await cdp.send('HeapProfiler.collectGarbage');
      const { JSHeapUsedSize, Nodes } = Object.fromEntries(
        (await cdp.send('Performance.getMetrics')).metrics.map(({ name, value }) => [name, value]),
      );
      return { heap: JSHeapUsedSize, nodes: Nodes };
    };
    await cdp.send('Performance.enable');
    await wheel(ada, -600, 60);
    await settle(ada);
    const first = await memory();
    const rowBefore = await rowOnScreen(ada);
    const events = [];
    cdp.on('Tracing.dataCollected', ({ value }) => events.push(...value));
    await cdp.send('Tracing.start', { traceConfig: { includedCategories: ['devtools.timeline', 'blink.user_timing', '__metadata'] } });
    await wheel(ada, -240, 400);
    const done = new Promise((resolve) => cdp.once('Tracing.tracingComplete', resolve));
    await cdp.send('Tracing.end');
    await done;
    await settle(ada);
    const last = await memory();
    const passed = rowBefore - (await rowOnScreen(ada));
    t.diagnostic(`rows passed: ${passed}`);
    assert.ok(passed >= Math.min(800, MESSAGES / 10), `${passed} rows passed by`);
    const times = frames(events);
    const p95 = times[Math.floor(times.length * 0.95)];
    t.diagnostic(`frames: ${times.length}, script and layout p50 ${times[times.length >> 1]?.toFixed(1)} ms, p95 ${p95?.toFixed(1)} ms`);
    t.diagnostic(`memory: ${(first.heap / 1e6).toFixed(1)} → ${(last.heap / 1e6).toFixed(1)} MB, nodes ${first.nodes} → ${last.nodes}`);
    assert.ok(times.length > 100, 'the trace holds frames');
    withinTarget(p95, 'WEB_TEST_FRAME_MS');
    assert.ok(last.heap < first.heap * 1.3 + 3e6, 'memory is flat');
    assert.ok(last.nodes < 12_000, `${last.nodes} nodes`);

    // A foreign message far below moves nothing here; the way back is one click.
    const here = await positions(ada);
    await server.post(people[1], roomId, 'the newest of all');
    await ada.page.getByRole('button', { name: 'New messages' }).waitFor();
    const still = new Map(await positions(ada));
    for (const [key, at] of here) assert.ok(Math.abs(still.get(key) - at) < 1, `${key} moved`);
    await ada.page.getByRole('button', { name: 'New messages' }).click();
    await ada.message('the newest of all').waitFor();
    await ada.page.getByRole('button', { name: /New messages|Jump to present/ }).waitFor({ state: 'detached' });
    await ada.write('and an answer');
    await ada.message('and an answer').waitFor();

    // To the very beginning.
    await ada.timeline.focus();
    await until('the first row is loaded', 170_000, async () => {
      await ada.timeline.evaluate((scroller) => scroller.scrollTo(0, 0));
      return ada.page.getByText('This is the beginning of #general').isVisible();
    });
  },
  { timeout: 600_000 },
);

/** The number in a row on screen. */
async function rowOnScreen(guest) {
  const [, number] = /row (\d+)/.exec(await guest.timeline.locator('.rows').innerText());
  return Number(number);
}

/** The id of a row about half way back. */
async function oneInTheMiddle(server, owner, roomId) {
  let before;
  for (let read = 0; read < MESSAGES / 2; read += 100) {
    const { page } = await server.call('RoomService/GetRoomEvents', { roomId, limit: 100, ...(before && { before }) }, owner);
    before = page.startCursor;
    if (read + 100 >= MESSAGES / 2) return page.events.find((one) => one.messagePosted).id;
  }
  throw new Error('too few rows');
}

scenario('what is new begins at a line, days are told apart, and neighbours are grouped', async ({ server, open }) => {
  const owner = await server.owner('ada', 'Ada');
  const roomId = await server.join(owner, 'general');
  const bob = await server.person(owner, 'bob', 'Bob');
  await server.join(bob, 'general');
  await server.post(owner, roomId, 'seen by Ada');
  for (let n = 0; n < 40; n += 1) await server.post(bob, roomId, `news ${n}\nof two lines`);
  const ada = await open();
  await ada.login('ada');
  const line = ada.timeline.getByRole('separator').filter({ hasText: 'New' });
  await line.waitFor();
  await settle(ada);
  await ada.look();
  const order = await ada.timeline.locator('.rows').innerText();
  assert.ok(order.indexOf('seen by Ada') < order.indexOf('NEW') || order.indexOf('seen by Ada') < order.indexOf('New'), order);
  const [top, height] = await line.evaluate((node) => [node.getBoundingClientRect().top, window.innerHeight]);
  assert.ok(top > 0 && top < height / 2, 'reading begins at the line');
  assert.equal(await ada.timeline.locator('.day').count(), 1);
  assert.match(await ada.timeline.locator('.day').innerText(), /today/i);
  assert.ok((await ada.timeline.locator('.message.grouped').count()) > 10);
  await ada.page.getByRole('button', { name: /Jump to present|New messages/ }).click();
  await ada.message('news 39').waitFor();

  // While nobody looks at the window, the line waits above what comes.
  await ada.page.evaluate(() => {
    Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await server.post(bob, roomId, 'while you were away');
  await ada.message('while you were away').waitFor();
  await ada.page.locator('.piece').filter({ hasText: 'while you were away' }).getByText('New', { exact: true }).waitFor();
  await ada.page.getByRole('navigation').getByRole('link', { name: /^general.*unread/ }).waitFor();
  await ada.page.evaluate(() => {
    Object.defineProperty(document, 'visibilityState', { value: 'visible', configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await ada.page.getByRole('navigation').getByRole('link', { name: /^general.*unread/ }).waitFor({ state: 'detached' });
  await ada.look();
  const gone = await open();
  await gone.login('ada');
  await gone.goto(`/chat/-/${roomId}/m/Enothing00000000`);
  gone.expected.push(/status of 404/);
  await gone.page.getByText('That message is not here any more.').waitFor();
  await gone.look();
});
