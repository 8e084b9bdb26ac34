// A room of WEB_TEST_MESSAGES (10,000) messages of mixed height: jumped into, scrolled back and forth, followed live.
import assert from 'node:assert/strict';
import { scenario } from './support/fixture.js';
import { attachment, rewriteRows, serveFiles } from './support/rewrite.js';
import { positions, settle } from './support/timeline.js';
import { PATIENCE_MS, until, withinTarget } from './support/wait.js';

const MESSAGES = Number(process.env.WEB_TEST_MESSAGES ?? 10_000);
const LONG_NAME = 'W'.repeat(32);

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
    // Six to eight get files on their way.
    default:
      return `row ${n}`;
  }
}

/** Pictures wide, high and small, of unknown size, and lost ones; files beside them. */
function addFiles(_event, message) {
  const n = Number(/^row (\d+)/.exec(message?.body)?.[1] ?? 0);
  const picture = (id, width, height, known = true) =>
    attachment({ id: `${id}${n}-${width}x${height}`, filename: `picture ${n}.png`, contentType: 'image/png', ...(known && { width, height }) });
  const [width, height] = [40 + ((n * 37) % 2_000), 20 + ((n * 91) % 1_600)];
  if (n % 10 === 6) message.attachments.push(picture('seen', width, height));
  if (n % 10 === 7) message.attachments.push(picture('unknown', width, height, false), picture('second', height, width));
  if (n % 10 === 8) {
    message.attachments.push(
      picture('lost', width, height),
      attachment({ id: `notes${n}-1x1`, filename: `notes of ${n}.pdf`, contentType: 'application/pdf' }),
    );
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

async function wheel(guest, by, times) {
  const box = await guest.timeline.boundingBox();
  await guest.page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  for (let n = 0; n < times; n += 1) {
    await guest.page.mouse.wheel(0, by);
    await guest.page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
  }
}

/** Watches what is on screen after each frame, until `window.endWatch()` gives what was seen. */
const watchFrames = (guest) =>
  guest.timeline.evaluate((scroller) => {
    const rowsOnScreen = () => {
      const { top, bottom } = scroller.getBoundingClientRect();
      return new Map(
        [...scroller.querySelectorAll('.item')]
          .map((node) => [node.dataset.key, node.getBoundingClientRect()])
          .filter(([, at]) => at.bottom > top && at.top < bottom)
          .map(([key, at]) => [key, at.top]),
      );
    };
    const seen = [];
    let last = rowsOnScreen();
    let isOn = true;
    window.endWatch = () => ((isOn = false), seen);
    const frame = () => {
      // A task after the frame: sizes were reported and positions corrected.
      setTimeout(() => {
        const now = rowsOnScreen();
        const moves = [...now].flatMap(([key, y]) => (last.has(key) ? [last.get(key) - y] : []));
        if (moves.length > 0) seen.push({ move: moves[0], spread: Math.max(...moves) - Math.min(...moves) });
        last = now;
        if (isOn) requestAnimationFrame(frame);
      });
    };
    requestAnimationFrame(frame);
  });

const STEP_PX = 240;

/** Far up and back again: in every frame all rows move alike, and at the end they are where they were. */
async function scrollsWithoutDrift(guest, t, times) {
  const before = await positions(guest);
  await watchFrames(guest);
  await wheel(guest, -STEP_PX, times);
  await settle(guest);
  const far = await positions(guest);
  assert.ok(!far.some(([key]) => before.some(([known]) => known === key)), 'it went far');
  await wheel(guest, STEP_PX, times);
  await settle(guest);
  const frames = await guest.page.evaluate(() => window.endWatch());
  const after = new Map(await positions(guest));
  const [key, at] = before.find(([one]) => after.has(one)) ?? [];
  assert.ok(key, 'back where it began');
  const drift = Math.abs(after.get(key) - at);
  const spread = Math.max(...frames.map((one) => one.spread));
  t.diagnostic(`${frames.length} frames over ${(2 * STEP_PX * times) / 1000}k px: drift ${drift.toFixed(2)} px, rows apart by ${spread.toFixed(2)} px at most`);
  assert.ok(frames.length > times, 'frames were seen');
  assert.ok(drift <= 1, `${key} was at ${at}, is at ${after.get(key)}`);
  assert.ok(spread <= 1, 'what is on screen moves as one');
  assert.deepEqual(frames.filter(({ move }) => Math.abs(move) > 3 * STEP_PX), [], 'no frame jumps');
}

/** Time of script and layout (Chromium’s “scripting” and “rendering”, not “painting”) in each frame of a trace, in ms. */
function frames(events) {
  // Other windows have processes of their own: the one that scrolls is the busiest.
  const [own] = events
    .filter((one) => one.name === 'thread_name' && one.args.name === 'CrRendererMain')
    .map((main) => events.filter((one) => one.ph === 'X' && one.tid === main.tid && one.pid === main.pid))
    .sort((a, b) => b.length - a.length);
  const begun = own.filter((one) => one.name === 'FireAnimationFrame' || one.name === 'PageAnimator::serviceScriptedAnimations').map((one) => one.ts);
  const heavy = own.filter((one) => ['FunctionCall', 'EvaluateScript', 'RunMicrotasks', 'Layout', 'UpdateLayoutTree', 'EventDispatch', 'FireAnimationFrame', 'ResizeObserver', 'TimerFire', 'PrePaint'].includes(one.name));
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
  const sums = begun.map((ts, n) => {
    const until = begun[n + 1] ?? ts + 16_667;
    return top.filter((one) => one.ts >= ts && one.ts < until).reduce((sum, one) => sum + one.dur, 0) / 1000;
  });
  return sums.sort((a, b) => a - b);
}

scenario(
  'thousands of messages: a link leads into them, scrolling drifts nowhere, memory stays flat',
  async ({ server, open, t }) => {
    const owner = await server.owner('ada', 'Ada');
    const people = [owner, await server.person(owner, 'bob', LONG_NAME), await server.person(owner, 'cy', 'Cy')];
    let roomId;
    for (const person of people) roomId = await server.join(person, 'general');
    await fill(server, people, roomId, MESSAGES);

    const arrive = async (guest, login) => {
      await rewriteRows(guest, addFiles);
      await serveFiles(guest);
      await guest.login(login);
    };
    const ada = await open();
    await arrive(ada, 'ada');
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
    assert.ok((await ada.timeline.locator('.picture').count()) > 0, 'there are pictures');
    await scrollsWithoutDrift(ada, t, 150);

    // A narrow phone of somebody who needs large letters: names take four lines.
    const small = await open({ viewport: { width: 320, height: 640 } });
    await arrive(small, 'cy');
    await small.goto(`/chat/-/${roomId}/m/${middle}`);
    await small.timeline.locator(`[data-key="${middle}"]`).waitFor();
    await small.page.evaluate(() => (document.documentElement.style.fontSize = '24px'));
    await settle(small);
    await scrollsWithoutDrift(small, t, 40);
    const name = small.timeline.locator('.who strong').filter({ hasText: LONG_NAME }).first();
    await until('a long name is drawn', PATIENCE_MS, async () => (await name.count()) > 0 || wheel(small, -STEP_PX, 1));
    await settle(small);
    const lines = await name.evaluate((node) => node.getBoundingClientRect().height / parseFloat(getComputedStyle(node).lineHeight));
    assert.ok(lines > 3.5, `the name takes ${lines} lines`);
    const wide = await small.timeline.evaluate((scroller) => {
      const { right } = scroller.getBoundingClientRect();
      // Code scrolls in a frame of its own.
      const nodes = [...scroller.querySelectorAll('.item *')].filter((node) => !node.closest('pre code'));
      return nodes.filter((node) => node.getBoundingClientRect().right > right + 0.5).map((node) => node.outerHTML.slice(0, 200));
    });
    assert.deepEqual(wide, [], 'nothing sticks out');
    await small.inspect('large-letters');

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
    await wheel(ada, -240, 720);
    const done = new Promise((resolve) => cdp.once('Tracing.tracingComplete', resolve));
    await cdp.send('Tracing.end');
    await done;
    await settle(ada);
    const last = await memory();
    const passed = rowBefore - (await rowOnScreen(ada));
    t.diagnostic(`rows passed: ${passed}`);
    assert.ok(passed >= Math.min(800, MESSAGES / 4), `${passed} rows passed by`);
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
