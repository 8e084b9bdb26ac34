// Never a lost or doubled text: lost responses, reloads, a killed server, several tabs.
import assert from 'node:assert/strict';
import { scenario } from './support/fixture.js';
import { PATIENCE_MS, until } from './support/wait.js';

const CREATE = '**/chatto.api.v1.MessageService/CreateMessage';

async function room({ server, open }, options) {
  const owner = await server.owner();
  const roomId = await server.join(owner, 'general');
  const ada = await open(options);
  await ada.login('ada');
  await ada.composer.waitFor();
  return { owner, roomId, ada };
}

/** The response is lost after the server stored the message; counts how often it was requested. */
async function loseAnswers(ada) {
  const keys = [];
  ada.expected.push(/ERR_CONNECTION_RESET|ERR_FAILED/);
  await ada.page.route(CREATE, async (route) => {
    keys.push(route.request().headers()['idempotency-key']);
    await route.fetch().catch(() => {});
    // The page may be gone by now.
    await route.abort('connectionreset').catch(() => {});
  });
  return keys;
}

const sent = (texts, text) => texts.filter((one) => one === text).length;

scenario('a message whose response is lost is repeated with its key and is there once', async (context) => {
  const { server } = context;
  const { owner, roomId, ada } = await room(context);
  const keys = await loseAnswers(ada);
  await ada.write('stored, but nobody said so');
  await until('it was sent again', PATIENCE_MS, () => keys.length >= 2);
  await ada.page.unroute(CREATE);
  await until('it is no longer on its way', PATIENCE_MS, () =>
    ada.page.evaluate(() => !Object.keys(localStorage).some((key) => key.startsWith('chatto:send:'))),
  );
  assert.equal(new Set(keys).size, 1, 'one key for one message');
  assert.equal(await ada.message('stored, but nobody said so').count(), 1);
  assert.equal(sent(await server.texts(owner, roomId), 'stored, but nobody said so'), 1);
});

scenario('messages keep their order, however slow the first one is', async (context) => {
  const { server } = context;
  const { owner, roomId, ada } = await room(context);
  let isFirst = true;
  await ada.page.route(CREATE, async (route) => {
    const waits = isFirst;
    isFirst = false;
    if (waits) await ada.message('third').waitFor();
    await route.continue();
  });
  for (const text of ['first', 'second', 'third']) await ada.write(text);
  await ada.message('third').locator('a.time').waitFor();
  assert.deepEqual(await server.texts(owner, roomId), ['first', 'second', 'third']);
  await until('the responses have arrived', PATIENCE_MS, async () => (await ada.timeline.getByText('sending…').count()) === 0);
  assert.deepEqual(await ada.timeline.locator('.body').allInnerTexts(), ['first', 'second', 'third']);
});

scenario('also after a reload', async (context) => {
  const { server } = context;
  const { owner, roomId, ada } = await room(context);
  const keys = await loseAnswers(ada);
  await ada.write('stored before the reload');
  await until('the server has it', PATIENCE_MS, async () => sent(await server.texts(owner, roomId), 'stored before the reload'));
  await ada.page.reload();
  await until('the new page repeats it', PATIENCE_MS, () => keys.length >= 2);
  await ada.page.unroute(CREATE);
  await until('it is no longer on its way', PATIENCE_MS, () =>
    ada.page.evaluate(() => !Object.keys(localStorage).some((key) => key.startsWith('chatto:send:'))),
  );
  assert.equal(await ada.message('stored before the reload').count(), 1);
  assert.equal(sent(await server.texts(owner, roomId), 'stored before the reload'), 1);
});

scenario('a message that never reached the server is sent by the next page', async (context) => {
  const { server } = context;
  const { owner, roomId, ada } = await room(context);
  ada.expected.push(/ERR_FAILED|ERR_INTERNET_DISCONNECTED/);
  await ada.page.route(CREATE, (route) => route.abort());
  await ada.write('never got out');
  await ada.message('never got out').getByText('sending…').waitFor();
  await ada.page.getByRole('button', { name: 'Log out' }).click();
  await ada.page.getByText('Not sent yet: 1 message.').waitFor();
  await ada.page.unroute(CREATE);
  await ada.page.reload();
  await ada.message('never got out').locator('a.time').waitFor();
  assert.equal(sent(await server.texts(owner, roomId), 'never got out'), 1);
});

/** Leaves what a page leaves that was closed three minutes ago while a message was on its way. */
async function leaveBehind(ada, roomId, body) {
  await ada.page.evaluate(
    ([room, text]) => {
      const user = Object.keys(localStorage).find((key) => key.startsWith('chatto:last:')).slice('chatto:last:'.length);
      const then = Date.now() - 180_000;
      localStorage.setItem(`chatto:send:${user}:0123456789abcdef`, JSON.stringify({ room, body: text, made: then, tried: then }));
    },
    [roomId, body],
  );
  await ada.page.reload();
}

scenario('a message of long ago without a response is searched for, not repeated', async (context) => {
  const { server } = context;
  const { owner, roomId, ada } = await room(context);
  const asked = [];
  ada.page.on('request', (request) => request.url().includes('CreateMessage') && asked.push(request.url()));
  await server.post(owner, roomId, 'it was stored');
  await ada.message('it was stored').waitFor();
  await leaveBehind(ada, roomId, 'it was stored');
  await until('it is dropped', PATIENCE_MS, () =>
    ada.page.evaluate(() => !Object.keys(localStorage).some((key) => key.startsWith('chatto:send:'))),
  );
  assert.equal(await ada.message('it was stored').count(), 1);

  await leaveBehind(ada, roomId, 'it was not');
  const question = ada.page.getByText('This may not have been sent');
  await question.waitFor();
  await ada.inspect();
  assert.deepEqual(asked, [], 'nothing is repeated by itself');
  await ada.page.getByRole('button', { name: 'Send it' }).click();
  await ada.message('it was not').locator('a.time').waitFor();
  assert.equal(sent(await server.texts(owner, roomId), 'it was not'), 1);

  await leaveBehind(ada, roomId, 'better not');
  await question.waitFor();
  await ada.page.getByRole('button', { name: 'Discard' }).click();
  await question.waitFor({ state: 'detached' });
  assert.equal(sent(await server.texts(owner, roomId), 'better not'), 0);
});

scenario('a refused message says so and can be tried again', async (context) => {
  const { server } = context;
  const { owner, roomId, ada } = await room(context);
  ada.expected.push(/status of 400/);
  await ada.page.route(CREATE, (route) =>
    route.fulfill({ status: 400, contentType: 'application/json', body: '{"code":"failed_precondition","message":"this room is archived"}' }),
  );
  await ada.write('refused at first');
  await ada.page.getByText('Not sent. This room is archived.').waitFor();
  await ada.inspect();
  await ada.page.unroute(CREATE);
  await ada.page.getByRole('button', { name: 'Try again' }).click();
  await ada.message('refused at first').locator('a.time').waitFor();
  assert.equal(sent(await server.texts(owner, roomId), 'refused at first'), 1);
});

scenario('a refused message is not lost behind another one with the same text', async (context) => {
  const { server } = context;
  const { owner, roomId, ada } = await room(context);
  ada.expected.push(/status of 400/);
  await ada.page.route(CREATE, async (route) => {
    // From another device of the same person, while this one is on its way.
    await server.post(owner, roomId, 'good morning');
    await ada.message('good morning').locator('a.time').waitFor();
    await route.fulfill({ status: 400, contentType: 'application/json', body: '{"code":"failed_precondition","message":"this room is archived"}' });
  });
  await ada.write('good morning');
  await ada.page.getByText('Not sent. This room is archived.').waitFor();
  assert.equal(await ada.message('good morning').count(), 2);
  await ada.page.getByRole('button', { name: 'Discard' }).click();
});

scenario('the server is killed while somebody types, and comes back', async (context) => {
  const { server } = context;
  const { owner, roomId, ada } = await room(context);
  const bob = await server.person(owner, 'bob', 'Bob');
  await server.join(bob, 'general');
  await ada.write('before the cut');
  await ada.message('before the cut').waitFor();
  ada.expected.push(/ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|WebSocket connection|status of 503/);
  await ada.composer.pressSequentially('I was just ');
  await server.kill();
  await ada.page.getByText('Connection lost.').waitFor();
  await ada.inspect();
  await ada.composer.pressSequentially('saying');
  await ada.composer.press('Enter');
  await ada.composer.pressSequentially('and this is a draft');
  await server.run();
  await ada.message('I was just saying').locator('a.time').waitFor();
  await ada.page.getByText('Connection lost.').waitFor({ state: 'detached' });
  await server.post(bob, roomId, 'welcome back');
  await ada.message('welcome back').waitFor();
  assert.equal(await ada.composer.inputValue(), 'and this is a draft');
  assert.deepEqual(await server.texts(owner, roomId), ['before the cut', 'I was just saying', 'welcome back']);
  const shown = await ada.timeline.locator('.body').allInnerTexts();
  assert.deepEqual(shown, ['before the cut', 'I was just saying', 'welcome back']);
});

scenario('what happens while the connection is away is there when it is back', async (context) => {
  const { server } = context;
  const { owner, roomId, ada } = await room(context);
  const bob = await server.person(owner, 'bob', 'Bob');
  await server.join(bob, 'general');
  await ada.write('one');
  await ada.message('one').locator('a.time').waitFor();
  ada.expected.push(/ERR_INTERNET_DISCONNECTED|WebSocket connection/);
  await ada.context.setOffline(true);
  // Emulation cuts new connections only: the socket goes as a network change lets it go.
  await ada.page.evaluate(() => window.dispatchEvent(new Event('offline')));
  await server.kill();
  await server.run();
  await ada.page.getByText('You are offline.').waitFor();
  await ada.write('written offline');
  await server.post(bob, roomId, 'two');
  await server.post(bob, roomId, 'three');
  await ada.context.setOffline(false);
  await ada.message('written offline').locator('a.time').waitFor();
  const shown = await ada.timeline.locator('.body').allInnerTexts();
  assert.deepEqual(shown, ['one', 'two', 'three', 'written offline']);
});

scenario('drafts stay with their room, over reloads and in other tabs', async (context) => {
  const { server } = context;
  const { owner, ada } = await room(context);
  const { groups } = await server.call('RoomDirectoryService/ListRoomGroups', {}, owner);
  await server.call('RoomService/CreateRoom', { name: 'garden', groupId: groups[0].id }, owner);
  const garden = await server.join(owner, 'garden');
  await ada.composer.fill('for general');
  await ada.page.getByRole('navigation').getByRole('link', { name: /garden/ }).click();
  assert.equal(await ada.composer.inputValue(), '');
  await ada.composer.fill('for the garden');
  await ada.page.getByRole('navigation').getByRole('link', { name: /^general draft/ }).click();
  await ada.page.getByRole('textbox', { name: 'Message to general' }).waitFor();
  assert.equal(await ada.composer.inputValue(), 'for general');
  await ada.page.reload();
  await ada.composer.waitFor();
  assert.equal(await ada.composer.inputValue(), 'for general');
  const tab = await context.open({ context: ada.context });
  await tab.goto(`/chat/-/${garden}`);
  await tab.composer.waitFor();
  assert.equal(await tab.composer.inputValue(), 'for the garden');
  await tab.write('for the garden');
  await ada.page.getByRole('navigation').getByRole('link', { name: /garden/ }).filter({ hasNotText: 'draft' }).waitFor();
  // Both tabs are the same person: what one writes the other shows at once.
  await ada.page.getByRole('navigation').getByRole('link', { name: /garden/ }).click();
  await ada.message('for the garden').waitFor();
  assert.equal(await ada.message('for the garden').count(), 1);
});

scenario('a text that is too long cannot be sent, and says by how much', async (context) => {
  const { server } = context;
  const { owner, roomId, ada } = await room(context);
  await ada.composer.fill('ä'.repeat(5_001));
  await ada.page.getByText('Too long by 2 bytes.').waitFor();
  await ada.inspect();
  await ada.composer.press('Enter');
  assert.equal((await ada.composer.inputValue()).length, 5_001);
  await ada.composer.fill('ä'.repeat(5_000));
  await ada.composer.press('Enter');
  await until('it is stored', PATIENCE_MS, async () => (await server.texts(owner, roomId)).length === 1);
});

scenario('after sleep the connection is replaced and goes on from its cursor', async (context) => {
  const { server } = context;
  const owner = await server.owner();
  const roomId = await server.join(owner, 'general');
  const ada = await context.open();
  const sockets = [];
  ada.page.on('websocket', (socket) => {
    const sent = [];
    sockets.push(sent);
    socket.on('framesent', ({ payload }) => sent.push(Buffer.from(payload).toString('latin1')));
  });
  await ada.login('ada');
  await ada.write('before sleep');
  await ada.message('before sleep').locator('a.time').waitFor();
  await ada.turn('hidden');
  await ada.page.evaluate(() => {
    const now = Date.now.bind(Date);
    Date.now = () => now() + 60_000;
  });
  const before = sockets.length;
  await ada.turn('visible');
  await until('there is a new connection', PATIENCE_MS, () => sockets.length > before && sockets.at(-1).length >= 2);
  assert.equal(sockets.length, before + 1, 'one connection at a time');
  const [, subscribe] = sockets.at(-1);
  assert.ok(subscribe.includes(roomId), 'it names the room on screen');
  assert.ok(subscribe.length > roomId.length + 20, 'it shows its cursor');
  await server.post(owner, roomId, 'after sleep');
  await ada.message('after sleep').waitFor();
  assert.deepEqual(await ada.timeline.locator('.body').allInnerTexts(), ['before sleep', 'after sleep']);
});
