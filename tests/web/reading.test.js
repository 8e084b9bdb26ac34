// What people see of a room's past: where the new begins, days, groups.
import assert from 'node:assert/strict';
import { scenario } from './support/fixture.js';
import { rewriteRows, timestamp } from './support/rewrite.js';
import { settle } from './support/timeline.js';

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

scenario('each day begins with its name, in the reader’s language and time', async ({ server, open }) => {
  const owner = await server.owner('ada', 'Ada');
  const roomId = await server.join(owner, 'general');
  const DAYS = ['400 days ago', '3 days ago, at noon', '3 days ago, later', 'yesterday, just before midnight', 'today, just after midnight'];
  let last;
  for (const day of DAYS) last = await server.post(owner, roomId, day);
  const ada = await open({ timezoneId: 'Pacific/Auckland' });
  // Noon in Auckland: yesterday there is another day than yesterday in UTC.
  const now = new Date('2026-11-18T23:00:00Z');
  const [noon, midnight] = [now.getTime(), new Date('2026-11-18T11:00:00Z').getTime()];
  const DAY_MS = 86_400_000;
  const times = [noon - 400 * DAY_MS, noon - 3 * DAY_MS, noon - 3 * DAY_MS + 60_000, midnight - 1_000, midnight + 1_000];
  await ada.page.clock.setFixedTime(now);
  await rewriteRows(ada, (event, message) => {
    event.createdAt = timestamp(times[message ? DAYS.indexOf(message.body) : 0]);
    if (message) message.createdAt = event.createdAt;
  });
  await ada.login('ada');
  await ada.composer.waitFor();
  await ada.goto(`/chat/-/${roomId}/m/${last.id}`);
  await ada.timeline.locator('.day').filter({ hasText: 'Yesterday' }).waitFor();
  await settle(ada);
  const seen = await ada.timeline.locator('.day, .message .body').allInnerTexts();
  assert.deepEqual(seen, [
    '15 October 2025', DAYS[0],
    'Monday 16 November', DAYS[1], DAYS[2],
    'Yesterday', DAYS[3],
    'Today', DAYS[4],
  ]);
  assert.equal(await ada.timeline.locator('.message.grouped').count(), 1, 'a day begins with a name');
  await ada.look();
});
