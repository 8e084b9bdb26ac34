// What people see of a room's past: where the new begins, days, groups.
import assert from 'node:assert/strict';
import { scenario } from './support/fixture.js';
import { made, refuseProtocol, rewriteRows, timestampFromMs } from './support/rewrite.js';
import { positions, settle } from './support/timeline.js';
import { PATIENCE_MS, until } from './support/wait.js';

/** Two people in one room. */
async function adaAndBob(server) {
  const owner = await server.owner('ada', 'Ada');
  const roomId = await server.join(owner, 'general');
  const bob = await server.person(owner, 'bob', 'Bob');
  await server.join(bob, 'general');
  return { owner, roomId, bob };
}

scenario('what is new begins at a line, days are separated, and neighbours are grouped', async ({ server, open }) => {
  const { owner, roomId, bob } = await adaAndBob(server);
  await server.post(owner, roomId, 'seen by Ada');
  for (let n = 0; n < 40; n += 1) await server.post(bob, roomId, `news ${n}\nof two lines`);
  const ada = await open();
  await ada.login('ada');
  const line = ada.timeline.getByRole('separator').filter({ hasText: 'New' });
  await line.waitFor();
  await settle(ada);
  await ada.inspect();
  const order = await ada.timeline.locator('.rows').innerText();
  assert.ok(order.indexOf('seen by Ada') < order.indexOf('NEW') || order.indexOf('seen by Ada') < order.indexOf('New'), order);
  const [top, height] = await line.evaluate((node) => [node.getBoundingClientRect().top, window.innerHeight]);
  assert.ok(top > 0 && top < height / 2, 'reading begins at the line');
  assert.equal(await ada.timeline.locator('.day').count(), 1);
  assert.match(await ada.timeline.locator('.day').innerText(), /today/i);
  assert.ok((await ada.timeline.locator('.message.grouped').count()) > 10);
  await ada.page.getByRole('button', { name: /Jump to present|New messages/ }).click();
  await ada.message('news 39').waitFor();

  // While the window is hidden, the line waits above what comes.
  await ada.turn('hidden');
  await server.post(bob, roomId, 'while you were away');
  await ada.message('while you were away').waitFor();
  await ada.page.locator('.item').filter({ hasText: 'while you were away' }).getByText('New', { exact: true }).waitFor();
  await ada.page.getByRole('navigation').getByRole('link', { name: /^general.*unread/ }).waitFor();
  await ada.turn('visible');
  await ada.page.getByRole('navigation').getByRole('link', { name: /^general.*unread/ }).waitFor({ state: 'detached' });
  await ada.inspect();
});

scenario('a window in the background reads nothing until it is visible', async ({ server, open }) => {
  const { owner, roomId, bob } = await adaAndBob(server);
  await server.post(owner, roomId, 'seen by Ada');
  await server.post(bob, roomId, 'unseen');
  const isUnread = async () => {
    const { rooms } = await server.call('RoomDirectoryService/ListRooms', {}, owner);
    return rooms.find(({ room }) => room.id === roomId).viewerState.hasUnread ?? false;
  };
  const ada = await open();
  await ada.login('ada');
  await ada.composer.waitFor();
  await until('it is read', PATIENCE_MS, async () => !(await isUnread()));
  const background = await open({ context: ada.context });
  await ada.goto('/rooms');
  await server.post(bob, roomId, 'while another window is open');
  assert.ok(await isUnread());
  await background.page.addInitScript(() => {
    Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true });
  });
  await background.goto(`/chat/-/${roomId}`);
  await background.message('while another window is open').waitFor();
  await server.post(bob, roomId, 'and one more');
  await background.message('and one more').waitFor();
  assert.ok(await isUnread(), 'nobody saw it');
  await background.turn('visible');
  await background.page.locator('.item').filter({ hasText: 'while another window is open' }).getByText('New', { exact: true }).waitFor();
  await until('it is read', PATIENCE_MS, async () => !(await isUnread()));
});

scenario('a window left alone does not call somebody away who is active in another one', async ({ server, open }) => {
  const owner = await server.owner('ada', 'Ada');
  await server.join(owner, 'general');
  const reports = [];
  const alone = await open();
  const active = await open({ context: alone.context });
  for (const one of [alone, active]) {
    // A clock that leaps looks like a network that slept.
    one.expected.push(/WebSocket is closed before the connection is established/);
    await one.page.clock.install();
  }
  alone.page.on('request', (request) => request.url().endsWith('/UpdatePresence') && reports.push(request.postDataBuffer()[1]));
  await alone.login('ada');
  await active.goto('/');
  for (const one of [alone, active]) {
    await one.composer.waitFor();
    await one.page.clock.fastForward(6 * 60_000);
  }
  const tick = async () => {
    const before = reports.length;
    await alone.page.clock.runFor(31_000);
    await until('presence is reported', PATIENCE_MS, () => reports.length > before);
    return reports.at(-1);
  };
  const [ONLINE, AWAY] = [1, 2];
  assert.equal(await tick(), AWAY, 'nobody touched either window');
  await active.page.keyboard.press('Shift');
  assert.equal(await tick(), ONLINE, 'the other one was touched');
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
    event.createdAt = timestampFromMs(times[message ? DAYS.indexOf(message.body) : 0]);
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
  await ada.inspect();
});

scenario('what is left of a deleted message says so, for an hour', async ({ server, open }) => {
  const owner = await server.owner('ada', 'Ada');
  const roomId = await server.join(owner, 'general');
  const TEXTS = ['deleted just now', 'deleted long ago', 'deleted, but answered', 'not readable', 'whole'];
  let last;
  for (const text of TEXTS) last = await server.post(owner, roomId, text);
  const ada = await open();
  const ids = [];
  await rewriteRows(ada, (_event, message) => {
    if (!message) return;
    // The same page may be asked for again, when the texts are gone.
    if (TEXTS.includes(message.body)) ids[TEXTS.indexOf(message.body)] = message.id;
    const n = ids.indexOf(message.id);
    const hours = [0, 2, 2][n];
    if (hours !== undefined) message.deletedAt = timestampFromMs(Date.now() - hours * 3_600_000);
    if (n < 4) message.body = undefined;
    if (n === 2) message.reactions.push(made('api.v1.MessageReaction', { emoji: '👍', count: 1 }));
  });
  await ada.login('ada');
  await ada.goto(`/chat/-/${roomId}/m/${last.id}`);
  await ada.message('whole').waitFor();
  await settle(ada);
  assert.deepEqual(await ada.timeline.locator('.message .body').allInnerTexts(), [
    'This message was deleted.',
    'This message was deleted.',
    'This message cannot be read.',
    'whole',
  ]);
  await ada.inspect();
});

scenario('a link to a message survives a broken connection, and leads to the present when the message is gone', async ({ server, open }) => {
  const owner = await server.owner('ada', 'Ada');
  const roomId = await server.join(owner, 'general');
  const first = await server.post(owner, roomId, 'the first');
  for (let n = 0; n < 200; n += 1) await server.post(owner, roomId, `message ${n}`);
  const ada = await open();
  await ada.login('ada');
  await ada.composer.waitFor();
  ada.expected.push(/ERR_FAILED/, /status of 404/);
  const around = '**/chatto.api.v1.RoomService/GetRoomEventsAround';
  await ada.page.route(around, (route) => route.abort());
  await ada.goto(`/chat/-/${roomId}/m/${first.id}`);
  await ada.page.getByText('The server cannot be reached.').waitFor();
  await ada.inspect();
  await ada.page.unroute(around);
  await ada.page.getByRole('button', { name: 'Try again' }).click();
  await ada.timeline.locator(`[data-key="${first.id}"]`).waitFor();
  await settle(ada);
  assert.ok((await positions(ada)).some(([key]) => key === first.id), 'it is on screen');

  // The response arrives after the room's newest page, which it must not hide.
  const gone = await open();
  gone.expected.push(/status of 404/);
  await gone.login('ada');
  await gone.composer.waitFor();
  const newest = new Promise((resolve) => {
    gone.page.on('websocket', (socket) => {
      socket.on('framereceived', ({ payload }) => Buffer.from(payload).toString('latin1').includes('message 199') && resolve());
    });
  });
  await gone.page.route(around, async (route) => {
    await newest;
    await route.continue();
  });
  await gone.goto(`/chat/-/${roomId}/m/Enothing00000000`);
  await gone.page.getByText('That message is not here any more.').waitFor();
  await gone.message('message 199').waitFor();
});

scenario('a page that the server no longer speaks with says what to do', async ({ server, open }) => {
  const owner = await server.owner('ada', 'Ada');
  await server.join(owner, 'general');
  const ada = await open();
  await ada.login('ada');
  await refuseProtocol(ada);
  await ada.page.reload();
  await ada.page.getByText('The server was renewed').waitFor();
  await ada.inspect();
  assert.ok(await ada.page.getByRole('button', { name: 'Load the page anew' }).isVisible());
});

scenario('who wants less motion gets none', async ({ server, open }) => {
  const owner = await server.owner('ada', 'Ada');
  await server.join(owner, 'general');
  const names = {};
  for (const reducedMotion of ['no-preference', 'reduce']) {
    const ada = await open({ reducedMotion });
    await ada.login('ada');
    // The page that waits for the server moves, if anything does.
    await ada.page.routeWebSocket(/\/api\/realtime$/, () => {});
    await ada.page.reload();
    await ada.page.getByText('Connecting…').waitFor();
    names[reducedMotion] = await ada.page.evaluate(() =>
      [...document.querySelectorAll('*')].flatMap((node) => {
        const { animationName, transitionDuration } = getComputedStyle(node);
        return animationName !== 'none' || transitionDuration !== '0s' ? [animationName] : [];
      }),
    );
  }
  assert.deepEqual(names, { 'no-preference': ['appear'], reduce: [] });
});

scenario('more rooms than one connection may hold, one after the other', async ({ server, open }) => {
  const owner = await server.owner('ada', 'Ada');
  const { groups } = await server.call('RoomDirectoryService/ListRoomGroups', {}, owner);
  const names = Array.from({ length: 70 }, (_, n) => `room ${n}`);
  for (const name of names) {
    const { room } = await server.call('RoomService/CreateRoom', { name, groupId: groups[0].id }, owner);
    await server.call('RoomService/JoinRoom', { roomId: room.id }, owner);
    await server.post(owner, room.id, `written in ${name}`);
  }
  const ada = await open();
  ada.expected.push(/WebSocket is closed before the connection is established/);
  await ada.login('ada');
  const visit = async (name) => {
    await ada.page.getByRole('navigation').getByRole('link', { name, exact: true }).click();
    await ada.message(`written in ${name}`).waitFor();
  };
  for (const name of names) await visit(name);
  await visit(names[0]);
  const roomId = await server.roomId(owner, names[0]);
  await server.post(owner, roomId, 'still live');
  await ada.message('still live').waitFor();
});
