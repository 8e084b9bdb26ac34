// Files: attached, uploaded over bad connections, shown, downloaded and deleted.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { scenario, SIZES } from './support/fixture.js';
import { png, wav, webm } from './support/media.js';
import { chunkOf, withoutPermission } from './support/rewrite.js';
import { PATIENCE_MS, until } from './support/wait.js';

const UPLOADS = '**/chatto.api.v1.AssetUploadService/';
const CREATE_MESSAGE = '**/chatto.api.v1.MessageService/CreateMessage';
const CHUNK = 512 * 1024;

const text = (name, content, mimeType = 'text/plain') => ({ name, mimeType, buffer: Buffer.from(content) });
const picture = (name, width, height, colour) => ({ name, mimeType: 'image/png', buffer: png(width, height, colour) });
/** Bytes without a pattern that repeats in a chunk. */
const binary = (name, length) => ({ name, mimeType: '', buffer: Buffer.from(Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * 17 + (i >> 16)) & 255)) });
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

async function room({ server, open }, options) {
  const owner = await server.owner();
  const roomId = await server.join(owner, 'general');
  const ada = await open(options);
  await ada.login('ada');
  await ada.goto(`/chat/-/${roomId}`);
  await ada.composer.waitFor();
  return { owner, roomId, ada };
}

async function attach(guest, files) {
  const [chooser] = await Promise.all([
    guest.page.waitForEvent('filechooser'),
    guest.page.getByRole('button', { name: 'Attach files' }).click(),
  ]);
  await chooser.setFiles(files);
}

const tray = (guest) => guest.page.getByRole('list', { name: 'Files to send' });
const chip = (guest, name) => tray(guest).getByRole('listitem').filter({ hasText: name });
const send = (guest) => guest.page.getByRole('button', { name: 'Send' });
const ready = (guest) => guest.page.getByRole('status').filter({ hasText: 'ready to send' }).waitFor();

/** Attaches files and sends them with a text. */
async function post(guest, files, body) {
  await attach(guest, files);
  await ready(guest);
  await guest.composer.fill(body);
  await send(guest).click();
  // With its own address, as the server has it.
  await guest.message(body).last().locator('a.file[href], .picture, audio, video').first().waitFor();
}

async function download(guest, link) {
  const [file] = await Promise.all([guest.page.waitForEvent('download'), link.click()]);
  return { name: file.suggestedFilename(), bytes: fs.readFileSync(await file.path()) };
}

/** Puts files on the clipboard or under the pointer, as the browser does it. */
const transfer = (guest, files) =>
  guest.page.evaluateHandle((list) => {
    const data = new DataTransfer();
    for (const { name, type, content } of list) data.items.add(new File([content], name, { type }));
    return data;
  }, files);

for (const [size, options] of Object.entries(SIZES)) {
  scenario(`files by button, several at once, seen by others: ${size}`, async (context) => {
    const { server, open } = context;
    const { owner, roomId, ada } = await room(context, options);
    const grace = await server.person(owner, 'grace', 'Grace');
    await server.join(grace, 'general');
    const plan = binary('plan of the beds, second version, with a long name.pdf', 1_300_000);
    await attach(ada, [picture('shed.png', 640, 360, [90, 140, 120]), plan, text('notes.txt', 'water the plants')]);
    await ready(ada);
    assert.equal(await tray(ada).getByRole('listitem').count(), 3);
    await chip(ada, 'plan of the beds').getByText('1.2 MB').waitFor();
    await ada.inspect(`files-tray-${size}`);
    await ada.composer.fill('That is the plan');
    await send(ada).click();
    await tray(ada).waitFor({ state: 'detached' });
    const message = ada.message('That is the plan');
    await message.getByRole('link', { name: /^plan of the beds/ }).getByText('PDF · 1.2 MB').waitFor();
    await message.getByRole('img', { name: 'shed.png' }).evaluate((image) => image.decode());
    await ada.inspect(`files-sent-${size}`);

    const other = await open(options);
    await other.login('grace');
    await other.goto(`/chat/-/${roomId}`);
    const seen = other.message('That is the plan');
    const file = await download(other, seen.getByRole('link', { name: /^plan of the beds/ }));
    assert.deepEqual([file.name, sha256(file.bytes)], [plan.name, sha256(plan.buffer)]);
    assert.equal(await seen.getByRole('button', { name: /^Delete/ }).count(), 0, 'only the author may delete');
    const { width, height } = await seen.locator('.picture').boundingBox();
    assert.ok(Math.abs(width / height - 16 / 9) < 0.05, `${width} × ${height}`);
  });
}

scenario('files by paste and by drop; a message of files alone', async (context) => {
  const { ada } = await room(context);
  const pasted = await transfer(ada, [{ name: 'image.png', type: 'image/png', content: 'pasted' }]);
  // Twice, before the code for it is loaded.
  await ada.composer.evaluate((area, data) => {
    for (let n = 0; n < 2; n += 1) area.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
  }, pasted);
  await until('both are attached', PATIENCE_MS, async () => (await chip(ada, 'image.png').count()) === 2);
  await ada.page.getByRole('button', { name: 'Remove image.png' }).nth(1).click();
  // An office program puts a picture of the text beside the text.
  const office = await ada.page.evaluateHandle(() => {
    const data = new DataTransfer();
    data.setData('text/plain', 'a cell');
    data.setData('text/html', '<b>a cell</b>');
    data.items.add(new File(['x'], 'cell.png', { type: 'image/png' }));
    return data;
  });
  const isText = await ada.composer.evaluate((area, data) => area.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true })), office);
  assert.ok(isText, 'the text is pasted');

  const dropped = await transfer(ada, [{ name: 'one.txt', type: 'text/plain', content: '1' }, { name: 'two.txt', type: 'text/plain', content: '2' }]);
  const drag = (kind, init = {}) =>
    ada.page.evaluate(([type, data, more]) => document.body.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true, ...more })), [kind, dropped, init]);
  const zone = ada.page.getByText('Drop files here to attach them');
  await drag('dragover');
  await zone.waitFor();
  await ada.inspect('files-drop');
  await drag('dragleave');
  await zone.waitFor({ state: 'detached' });
  await drag('dragover');
  await zone.waitFor();
  await drag('drop');
  await zone.waitFor({ state: 'detached' });
  await ready(ada);
  assert.equal(await tray(ada).getByRole('listitem').count(), 3);
  await send(ada).click();
  await ada.timeline.getByRole('link', { name: /^one\.txt/ }).waitFor();
  assert.deepEqual(await ada.timeline.locator('.file .name').allInnerTexts(), ['image.png', 'one.txt', 'two.txt']);
  assert.equal(await ada.timeline.locator('.body').count(), 0);
});

scenario('progress is shown, sending waits for it, and an upload can be cancelled', async (context) => {
  const { ada } = await room(context);
  const held = [];
  await ada.page.route(`${UPLOADS}UploadChunk`, (route) => {
    if (chunkOf(route.request()).offset === 0n) return route.continue();
    held.push(route);
  });
  await attach(ada, [binary('film.bin', CHUNK * 3), text('small.txt', 'x')]);
  const bar = ada.page.getByRole('progressbar', { name: 'Upload of film.bin' });
  await until('a third has arrived', PATIENCE_MS, async () => (await bar.count()) === 1 && (await bar.evaluate((one) => one.position)) > 0.3);
  await chip(ada, 'film.bin').getByText('512 KB of 1.5 MB').waitFor();
  await ada.page.getByRole('status').filter({ hasText: 'Uploading 2 files, 25 percent.' }).waitFor();
  await ada.composer.fill('not yet');
  await ada.page.getByText('You can send when all files are uploaded.').waitFor();
  assert.ok(await send(ada).isDisabled());
  await ada.composer.press('Enter');
  assert.equal(await ada.composer.inputValue(), 'not yet');
  await ada.inspect('files-progress');
  const [cancelled] = await Promise.all([
    ada.page.waitForResponse(/CancelUpload$/),
    ada.page.getByRole('button', { name: 'Cancel film.bin' }).click(),
  ]);
  assert.equal(cancelled.status(), 200);
  await chip(ada, 'film.bin').waitFor({ state: 'detached' });
  await ready(ada);
  ada.expected.push(/ERR_FAILED/);
  for (const route of held) await route.abort();
  await ada.page.getByRole('button', { name: 'Remove small.txt' }).click();
  await tray(ada).waitFor({ state: 'detached' });
  assert.ok(await ada.composer.evaluate((node) => node === document.activeElement));
  await ada.composer.press('Enter');
  await ada.message('not yet').waitFor();
});

scenario('a cut connection delays an upload; nothing is sent twice', async (context) => {
  const { ada } = await room(context);
  ada.expected.push(/ERR_FAILED|ERR_CONNECTION/);
  const offsets = [];
  const receipts = [];
  let isCut = false;
  let isLost = true;
  await ada.page.route(`${UPLOADS}*`, async (route) => {
    const method = route.request().url().split('/').at(-1);
    if (isCut) return route.abort();
    if (method === 'GetUpload') receipts.push(method);
    if (method !== 'UploadChunk') return route.continue();
    const { offset } = chunkOf(route.request());
    offsets.push(Number(offset));
    if (Number(offset) !== CHUNK || !isLost) return route.continue();
    // The chunk arrives, the response does not, and then there is no connection for a while.
    isLost = false;
    isCut = true;
    await route.fetch();
    await route.abort('connectionreset');
  });
  const film = binary('film.bin', CHUNK * 3 + 10);
  await attach(ada, [film]);
  await chip(ada, 'film.bin').getByText('The server cannot be reached. Trying again…').waitFor();
  await ada.inspect('files-cut');
  isCut = false;
  await ready(ada);
  assert.equal(receipts.length, 1);
  assert.equal(new Set(offsets).size, offsets.length, `each byte once: ${offsets}`);
  await ada.composer.fill('here it is');
  await send(ada).click();
  const file = await download(ada, ada.message('here it is').getByRole('link', { name: /^film\.bin/ }));
  assert.equal(sha256(file.bytes), sha256(film.buffer));
});

scenario('the server is killed during an upload, and comes back', async (context) => {
  const { server } = context;
  const { ada } = await room(context);
  ada.expected.push(/ERR_CONNECTION|ERR_EMPTY_RESPONSE|WebSocket connection|status of 503/);
  const film = binary('film.bin', CHUNK * 6);
  let hasBegun;
  await ada.page.route(`${UPLOADS}UploadChunk`, async (route) => {
    if (Number(chunkOf(route.request()).offset) === 2 * CHUNK && !hasBegun) {
      hasBegun = true;
      await server.kill();
    }
    await route.continue().catch(() => {});
  });
  await attach(ada, [film]);
  await chip(ada, 'film.bin').getByText('Trying again…').waitFor();
  await server.run();
  await ready(ada);
  await ada.composer.fill('it survived');
  await send(ada).click();
  const file = await download(ada, ada.message('it survived').getByRole('link', { name: /^film\.bin/ }));
  assert.equal(sha256(file.bytes), sha256(film.buffer));
});

scenario('a session that ends during an upload: it continues after the next log-in', async (context) => {
  const { server } = context;
  const { roomId, ada } = await room(context);
  ada.expected.push(/status of 401/);
  let release;
  const gate = new Promise((resolve) => (release = resolve));
  const offsets = [];
  await ada.page.route(`${UPLOADS}UploadChunk`, async (route) => {
    offsets.push(Number(chunkOf(route.request()).offset));
    if (offsets.at(-1) === CHUNK && offsets.length === 2) await gate;
    await route.continue().catch(() => {});
  });
  await attach(ada, [binary('film.bin', CHUNK * 3)]);
  await chip(ada, 'film.bin').getByText('512 KB of').waitFor();
  server.command('user', 'set-password', 'ada', '--password', 'another fine password');
  await ada.page.getByText(/password was (changed|reset).* Your uploads continue then\./).waitFor();
  release();
  // Not by `login`, which loads the page: what was not uploaded would end with it.
  await ada.page.getByLabel('Login or e-mail').fill('ada');
  await ada.page.getByLabel('Password').fill('another fine password');
  await ada.page.getByRole('button', { name: 'Log in' }).click();
  await chip(ada, 'film.bin').waitFor();
  await ready(ada);
  assert.equal(offsets.filter((offset) => offset === 0).length, 1, 'what had arrived is not sent again');
  await send(ada).click();
  await ada.timeline.getByRole('link', { name: /^film\.bin/ }).waitFor();
  assert.match(ada.page.url(), new RegExp(roomId));
});

scenario('a reload during an upload: it continues, and what was uploaded is still attached', async (context) => {
  const { ada } = await room(context);
  ada.expected.push(/ERR_FAILED|ERR_ABORTED/);
  const offsets = [];
  let isHeld = true;
  await ada.page.route(`${UPLOADS}UploadChunk`, (route) => {
    const { offset } = chunkOf(route.request());
    if (isHeld && Number(offset) === 2 * CHUNK) return undefined;
    offsets.push(Number(offset));
    return route.continue();
  });
  const film = binary('film.bin', CHUNK * 4 + 10);
  await attach(ada, [text('notes.txt', 'water the plants')]);
  await ready(ada);
  await attach(ada, [film]);
  await chip(ada, 'film.bin').getByText('1 MB of 2 MB').waitFor();
  await ada.composer.fill('after the reload');
  await ada.page.reload();
  isHeld = false;
  await ready(ada);
  assert.deepEqual(await tray(ada).locator('.name').allInnerTexts(), ['notes.txt', 'film.bin']);
  assert.deepEqual(offsets, [0, 0, CHUNK, 2 * CHUNK, 3 * CHUNK, 4 * CHUNK], 'each byte once');
  await send(ada).click();
  const message = ada.message('after the reload');
  const file = await download(ada, message.getByRole('link', { name: /^film\.bin/ }));
  assert.equal(sha256(file.bytes), sha256(film.buffer));
  await message.getByRole('link', { name: /^notes\.txt/ }).waitFor();
  await ada.page.reload();
  await message.waitFor();
  assert.equal(await tray(ada).count(), 0, 'what is sent is not attached again');
});

scenario('a phone that sleeps during an upload', async (context) => {
  const { ada } = await room(context, SIZES.phone);
  ada.expected.push(/ERR_|WebSocket/);
  const cdp = await ada.context.newCDPSession(ada.page);
  const offsets = [];
  let wake;
  let sleep;
  const asleep = new Promise((resolve) => (sleep = resolve));
  const awake = new Promise((resolve) => (wake = resolve));
  await ada.page.route(`${UPLOADS}UploadChunk`, async (route) => {
    offsets.push(Number(chunkOf(route.request()).offset));
    if (offsets.length !== 2) return route.continue();
    sleep();
    await awake;
    return route.abort('connectionreset');
  });
  await attach(ada, [binary('film.bin', CHUNK * 3)]);
  await asleep;
  await cdp.send('Page.setWebLifecycleState', { state: 'frozen' });
  await ada.context.setOffline(true);
  wake();
  await ada.context.setOffline(false);
  await cdp.send('Page.setWebLifecycleState', { state: 'active' });
  await ready(ada);
  assert.equal(offsets.filter((offset) => offset === 0).length, 1, 'what had arrived is not sent again');
  await send(ada).tap();
  await ada.timeline.getByRole('link', { name: /^film\.bin/ }).waitFor();
});

scenario('names as systems give them: decomposed, in two cases, without an ending, twice, and an empty file', async (context) => {
  const { ada } = await room(context);
  const files = [
    text('Cafe\u0301.txt', 'decomposed'),
    text('Caf\u00e9.txt', 'composed'),
    text('report.txt', 'lower case'),
    text('REPORT.TXT', 'upper case'),
    text('twice.txt', 'the same'),
    text('twice.txt', 'the same'),
    { name: 'image:1000004711', mimeType: 'image/png', buffer: png(300, 200, [90, 140, 120]) },
    { name: 'document:42', mimeType: 'application/octet-stream', buffer: Buffer.from([1, 2, 3]) },
    { name: 'empty.txt', mimeType: 'text/plain', buffer: Buffer.alloc(0) },
    text('ten.txt', '10'),
  ];
  await post(ada, files, 'ten of them');
  const cards = ada.message('ten of them').locator('a.file');
  await cards.filter({ hasText: 'empty.txt' }).getByText('TXT · 0 bytes').waitFor();
  await cards.filter({ hasText: 'document:42' }).getByText(/^3 bytes$/).waitFor();
  const shown = files.filter(({ mimeType }) => mimeType !== 'image/png');
  assert.deepEqual(await cards.locator('.name').allInnerTexts(), shown.map(({ name }) => name.normalize('NFC')));
  for (const [n, { buffer }] of shown.entries()) {
    const file = await download(ada, cards.nth(n));
    assert.equal(sha256(file.bytes), sha256(buffer), file.name);
  }
  await ada.message('ten of them').getByRole('img', { name: 'image:1000004711' }).evaluate((image) => image.decode());
  await ada.inspect('files-names');
});

scenario('what fails at the server says why, and continues', async (context) => {
  const { ada } = await room(context);
  ada.expected.push(/status of (503|400|413)/);
  let failure;
  await ada.page.route(`${UPLOADS}*`, (route) => (failure ? route.fulfill({ contentType: 'application/json', ...failure }) : route.continue()));
  const of = (status, code, message) => ({ status, body: JSON.stringify({ code, message }) });
  for (const [n, [response, shown]] of [
    [of(503, 'unavailable', "the server's disk is full"), "The server's disk is full. Trying again…"],
    // As when S3 is away.
    [of(503, 'unavailable', 'the server cannot do that now, try again'), 'The server cannot do that now. Trying again…'],
    [{ status: 503, contentType: 'text/html', body: '<h1>Bad gateway</h1>' }, 'The server cannot be reached. Trying again…'],
  ].entries()) {
    failure = response;
    await attach(ada, [text(`${n}.txt`, 'x')]);
    await chip(ada, `${n}.txt`).getByText(shown).waitFor();
    failure = undefined;
    await ready(ada);
  }
  failure = of(400, 'invalid_argument', 'a file must be at most 1048576 bytes long');
  await attach(ada, [text('large.txt', 'x')]);
  await chip(ada, 'large.txt').getByText('A file must be at most 1048576 bytes long.').waitFor();
  await ada.inspect('files-refused');
});

scenario('every control has a name and can be reached by keyboard', async (context) => {
  const { ada } = await room(context);
  const { page } = ada;
  // Keeps the browser from opening a window of its own, which a key does sooner than a test can ask for it.
  page.on('filechooser', () => {});
  await attach(ada, [text('one.txt', '1'), text('two.txt', '2')]);
  await ready(ada);
  const focused = () => page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.id);
  await ada.composer.focus();
  const reached = [];
  for (let n = 0; n < 3; n += 1) {
    await page.keyboard.press('Shift+Tab');
    reached.unshift(await focused());
  }
  assert.deepEqual(reached, ['Remove one.txt', 'Remove two.txt', 'Attach files']);
  await page.getByRole('button', { name: 'Remove two.txt' }).focus();
  await page.keyboard.press('Enter');
  await chip(ada, 'two.txt').waitFor({ state: 'detached' });
  assert.equal(await focused(), 'composer');
  await page.getByRole('button', { name: 'Attach files' }).focus();
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.keyboard.press('Enter')]);
  await chooser.setFiles([picture('shed.png', 640, 360, [90, 140, 120])]);
  await ready(ada);
  await ada.composer.fill('by keyboard');
  await page.keyboard.press('Enter');
  const message = ada.message('by keyboard');
  await message.locator('.picture').waitFor();
  await ada.timeline.focus();
  const inMessage = [];
  while (!inMessage.includes('composer') && inMessage.length < 20) {
    await page.keyboard.press('Tab');
    inMessage.push(await focused() || (await page.evaluate(() => document.activeElement.textContent.trim())));
  }
  for (const name of ['Delete one.txt', 'Enlarge shed.png', 'Delete shed.png', 'Delete this message']) {
    assert.ok(inMessage.includes(name), `${name}: ${inMessage}`);
  }
});

scenario(
  'too large, too many: refused before anything is sent',
  async (context) => {
    const { ada } = await room(context);
    const created = [];
    ada.page.on('request', (request) => request.url().endsWith('CreateUpload') && created.push(request));
    await attach(ada, [binary('film.mp4', 1024 * 1024 + 1)]);
    await ada.page.getByRole('alert').filter({ hasText: 'film.mp4 is too large. A file may have up to 1 MB.' }).waitFor();
    await ada.inspect('files-too-large');
    await ada.page.getByRole('button', { name: 'Close this message' }).click();
    await ada.page.getByText('film.mp4').waitFor({ state: 'detached' });
    assert.equal(created.length, 0);
    await attach(ada, Array.from({ length: 11 }, (_, n) => text(`${n}.txt`, `${n}`)));
    await ada.page.getByRole('alert').filter({ hasText: '10.txt was not attached: a message may have up to 10 files.' }).waitFor();
    await ready(ada);
    assert.deepEqual([created.length, await tray(ada).getByRole('listitem').count()], [10, 10]);
    await send(ada).click();
    await ada.timeline.getByRole('link', { name: /^9\.txt/ }).waitFor();
    assert.equal(await ada.timeline.locator('.file').count(), 10);
  },
  { env: { CHATTO_CORE_ASSETS_MAX_UPLOAD_SIZE: '1MiB' } },
);

scenario('files that cannot be read fail and say so; so does what the server refuses', async (context) => {
  const { ada } = await room(context);
  ada.expected.push(/status of 400/);
  await ada.page.route(`${UPLOADS}CreateUpload`, (route) =>
    route.fulfill({ status: 400, contentType: 'application/json', body: '{"code":"failed_precondition","message":"room is archived"}' }),
  );
  await attach(ada, [text('a.txt', 'a')]);
  await chip(ada, 'a.txt').getByText('Room is archived.').waitFor();
  await ada.page.getByRole('status').filter({ hasText: '1 of 1 file could not be uploaded.' }).waitFor();
  assert.ok(await send(ada).isDisabled());
  await ada.inspect('files-failed');
  await ada.page.unroute(`${UPLOADS}CreateUpload`);
  await ada.page.getByRole('button', { name: 'Retry a.txt' }).click();
  await ready(ada);
});

scenario('a message with files whose response is lost is there once', async (context) => {
  const { ada } = await room(context);
  ada.expected.push(/ERR_CONNECTION_RESET/);
  let calls = 0;
  await ada.page.route(CREATE_MESSAGE, async (route) => {
    calls += 1;
    if (calls > 1) return route.continue();
    await route.fetch();
    await route.abort('connectionreset');
  });
  await attach(ada, [text('only.txt', 'once')]);
  await ready(ada);
  await send(ada).click();
  await until('it was sent again', PATIENCE_MS, () => calls === 2);
  await until('it is no longer on its way', PATIENCE_MS, () =>
    ada.page.evaluate(() => !Object.keys(localStorage).some((key) => key.startsWith('chatto:send:'))),
  );
  assert.equal(await ada.timeline.getByRole('link', { name: /^only\.txt/ }).count(), 1);
  assert.equal(await ada.timeline.locator('.file').count(), 1);
});

scenario('attached files stay with their room', async (context) => {
  const { server } = context;
  const { owner, ada } = await room(context);
  const { groups } = await server.call('RoomDirectoryService/ListRoomGroups', {}, owner);
  await server.call('RoomService/CreateRoom', { name: 'garden', groupId: groups[0].id }, owner);
  await server.join(owner, 'garden');
  await attach(ada, [text('for general.txt', 'x')]);
  await ready(ada);
  await ada.page.getByRole('navigation').getByRole('link', { name: /garden/ }).click();
  await ada.page.getByRole('textbox', { name: 'Message to garden' }).waitFor();
  assert.equal(await tray(ada).count(), 0);
  await ada.page.getByRole('navigation').getByRole('link', { name: /^general/ }).click();
  await chip(ada, 'for general.txt').waitFor();
  await ada.page.getByRole('button', { name: 'Log out' }).click();
  await ada.page.getByText('Not sent yet: 1 file. Log out once more to discard that.').waitFor();
  await chip(ada, 'for general.txt').waitFor();
  await ada.page.getByRole('button', { name: 'Log out' }).click();
  await ada.page.getByRole('heading', { name: 'Log in' }).waitFor();
  await ada.page.getByLabel('Login or e-mail').fill('ada');
  await ada.page.getByLabel('Password').fill('correct horse battery');
  await ada.page.getByRole('button', { name: 'Log in' }).click();
  await ada.composer.waitFor();
  assert.equal(await tray(ada).count(), 0, 'nothing is left after a log-out');
  await ada.page.reload();
  await ada.composer.waitFor();
  assert.equal(await tray(ada).count(), 0, 'nor after a reload');
  assert.deepEqual(await ada.page.evaluate(() => Object.keys(sessionStorage)), []);
});

scenario('without the permission there are no controls, and nothing can be dropped', async (context) => {
  const { server, open } = context;
  const owner = await server.owner();
  const roomId = await server.join(owner, 'general');
  const ada = await open();
  await withoutPermission(ada, 'message.attach');
  await ada.login('ada');
  await ada.goto(`/chat/-/${roomId}`);
  await ada.composer.waitFor();
  assert.equal(await ada.page.getByRole('button', { name: 'Attach files' }).count(), 0);
  const data = await transfer(ada, [{ name: 'one.txt', type: 'text/plain', content: '1' }]);
  for (const kind of ['dragover', 'drop']) {
    const isDefault = await ada.page.evaluate(([type, files]) => document.body.dispatchEvent(new DragEvent(type, { dataTransfer: files, bubbles: true, cancelable: true })), [kind, data]);
    assert.equal(isDefault, false, 'the page is not replaced by the file');
  }
  await ada.write('words only');
  await ada.message('words only').waitFor();
  assert.equal(await tray(ada).count(), 0);
});

scenario('a picture in the whole window: keys, focus, neighbours, download', async (context) => {
  const { ada } = await room(context);
  const files = [picture('first.png', 1200, 800, [160, 60, 60]), text('between.txt', 'x'), picture('second.png', 300, 900, [60, 120, 60]), picture('third.png', 64, 64, [60, 60, 160])];
  await post(ada, files, 'three pictures');
  const { page } = ada;
  const opener = page.getByRole('button', { name: 'Enlarge second.png' });
  await opener.focus();
  await page.keyboard.press('Enter');
  const box = page.getByRole('dialog', { name: 'Picture second.png' });
  await box.getByText('2 of 3').waitFor();
  await box.getByRole('img').evaluate((image) => image.decode());
  await ada.inspect('files-lightbox');
  for (let n = 0; n < 8; n += 1) {
    await page.keyboard.press('Tab');
    assert.ok(await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest('dialog') !== null), 'the focus stays inside');
  }
  await page.keyboard.press('ArrowRight');
  await page.getByRole('dialog', { name: 'Picture third.png' }).waitFor();
  await page.keyboard.press('ArrowRight');
  const first = page.getByRole('dialog', { name: 'Picture first.png' });
  await first.getByText('1 of 3').waitFor();
  const file = await download(ada, first.getByRole('link', { name: 'Download first.png' }));
  assert.deepEqual([file.name, sha256(file.bytes)], ['first.png', sha256(files[0].buffer)]);
  await first.getByRole('button', { name: 'Previous picture' }).click();
  await page.getByRole('dialog', { name: 'Picture third.png' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  assert.ok(await opener.evaluate((node) => node === document.activeElement), 'the focus is back');
});

scenario('a picture on a phone', async (context) => {
  const { ada } = await room(context, { ...SIZES.phone, colorScheme: 'dark' });
  await post(ada, [picture('wide.png', 1600, 500, [120, 90, 40]), picture('high.png', 200, 1200, [40, 90, 120]), text('list.txt', 'x')], 'on the way');
  await ada.inspect('files-phone');
  const edges = await ada.timeline.locator('.picture, .file, .delete').evaluateAll((all) => all.map((one) => one.getBoundingClientRect().right));
  assert.ok(Math.max(...edges) <= 390, `nothing sticks out at the side: ${edges}`);
  await ada.page.getByRole('button', { name: 'Enlarge wide.png' }).tap();
  const box = ada.page.getByRole('dialog');
  await box.getByRole('img').evaluate((image) => image.decode());
  await ada.inspect('files-lightbox-phone');
  const { width, height } = await box.getByRole('img').boundingBox();
  assert.ok(width <= 390 && Math.abs(width / height - 3.2) < 0.05, `${width} × ${height}`);
  await box.getByRole('button', { name: 'Next picture' }).tap();
  await ada.page.getByRole('dialog', { name: 'Picture high.png' }).waitFor();
  await box.getByRole('button', { name: 'Close' }).tap();
  await box.waitFor({ state: 'detached' });
});

scenario('sounds and films can be played from any place', async (context) => {
  const { ada } = await room(context);
  const ranges = [];
  ada.page.on('response', (response) => {
    if (/\/assets\/files\/\w+\?/.test(response.url())) ranges.push([response.status(), response.request().headers()['range']]);
  });
  await post(ada, [{ name: 'rain.wav', mimeType: 'audio/wav', buffer: wav(60) }, { name: 'clip.webm', mimeType: 'video/webm', buffer: await webm(ada.page) }], 'listen');
  const sound = ada.timeline.locator('audio');
  await until('its length is known', PATIENCE_MS, () => sound.evaluate((one) => Math.round(one.duration) === 60));
  await sound.evaluate((one) => (one.currentTime = 55));
  await until('it has what comes there', PATIENCE_MS, () => sound.evaluate((one) => !one.seeking && one.readyState >= 3 && one.currentTime >= 55));
  await until('a part was asked for', PATIENCE_MS, () => ranges.some(([status, range]) => status === 206 && Number(/bytes=(\d+)-/.exec(range)?.[1]) > 1_000_000));
  const film = ada.timeline.locator('video');
  await until('it has a picture', PATIENCE_MS, () => film.evaluate((one) => one.readyState >= 2 && one.videoWidth === 320));
  await film.evaluate(async (one) => {
    one.muted = true;
    await one.play();
  });
  await until('it runs', PATIENCE_MS, () => film.evaluate((one) => one.currentTime > 0.2));
  await film.evaluate((one) => {
    one.pause();
    one.currentTime = 1;
  });
  await until('it is where it was put', PATIENCE_MS, () => film.evaluate((one) => !one.seeking && Math.abs(one.currentTime - 1) < 0.2));
  await ada.inspect('files-players');
  const file = await download(ada, ada.timeline.getByRole('link', { name: /^rain\.wav/ }));
  assert.equal(file.bytes.length, 60 * 88_200 + 44);
});

scenario('names and contents of people are never executed', async (context) => {
  const { server } = context;
  const { ada } = await room(context);
  ada.page.on('dialog', (dialog) => {
    ada.errors.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  const script = '<img src=x onerror=alert(1)><script>alert(2)<script>.png';
  const evil = [
    { ...picture(script, 20, 20, [1, 2, 3]) },
    text('page.html', '<!doctype html><h1>rendered</h1><script>alert(3)</script>', 'text/html'),
    text('drawing.svg', '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(4)</script></svg>', 'image/svg+xml'),
    text('cat.png', '<!doctype html><script>alert(5)</script>', 'image/png'),
    text('"quoted" ‮gnp.exe', 'MZ'),
  ];
  await post(ada, evil, 'look at this');
  const shown = ada.message('look at this');
  await shown.getByRole('img', { name: script }).waitFor();
  for (const name of ['page.html', 'drawing.svg', 'cat.png']) {
    const file = await download(ada, shown.getByRole('link', { name: new RegExp(`^${name}`) }));
    assert.equal(file.name, name);
    // As an address of its own it is downloaded too.
    const href = await shown.getByRole('link', { name: new RegExp(`^${name}`) }).getAttribute('href');
    const response = await fetch(new URL(href, server.url));
    assert.match(response.headers.get('content-disposition'), /^attachment;/, name);
    const [opened] = await Promise.all([ada.page.waitForEvent('download'), ada.page.evaluate((url) => void (location.href = url), href)]);
    assert.equal(opened.suggestedFilename(), name);
  }
  assert.equal(await ada.page.getByRole('heading', { name: 'rendered' }).count(), 0);
  await shown.getByRole('button', { name: `Enlarge ${script}` }).click();
  await ada.page.getByRole('dialog', { name: `Picture ${script}` }).waitFor();
  await ada.inspect();
  await ada.page.keyboard.press('Escape');
});

scenario('addresses that have ended are renewed; what is lost becomes a card', async (context) => {
  const { ada } = await room(context);
  ada.expected.push(/status of 40[34]/);
  await post(ada, [picture('shed.png', 640, 360, [90, 140, 120])], 'an old picture');
  const tries = [];
  let isEnded = true;
  await ada.page.route(/\/assets\/files\//, (route) => {
    const url = route.request().url();
    tries.push(url);
    if (isEnded && !url.includes('retry=')) return route.fulfill({ status: 403, body: '' });
    return isEnded === undefined ? route.fulfill({ status: 404, body: '' }) : route.continue();
  });
  const [renewal] = await Promise.all([ada.page.waitForRequest(/BatchGetAssets$/), ada.page.reload()]);
  assert.ok(renewal);
  await ada.message('an old picture').getByRole('img').evaluate((image) => image.decode());
  assert.match(tries.at(-1), /&retry=1$/);
  isEnded = undefined;
  await ada.page.reload();
  await ada.message('an old picture').getByRole('link', { name: /^shed\.png/ }).getByText('PNG ·').waitFor();
  assert.equal(await ada.message('an old picture').getByRole('img').count(), 0);
  await ada.inspect('files-lost');
});

scenario('a lost picture keeps its space, however little room there is for the words that say so', async (context) => {
  const { ada } = await room(context, { viewport: { width: 320, height: 640 } });
  ada.expected.push(/status of 404/);
  await post(ada, [picture('flat.png', 1600, 120, [90, 140, 120])], 'a flat picture');
  let lose;
  const isLost = new Promise((resolve) => (lose = resolve));
  await ada.page.route(/\/assets\/files\//, async (route) => {
    await isLost;
    await route.fulfill({ status: 404, body: '' });
  });
  await ada.page.reload();
  await ada.page.evaluate(() => (document.documentElement.style.fontSize = '24px'));
  const message = ada.message('a flat picture');
  await message.locator('.picture').waitFor();
  const before = await message.boundingBox();
  lose();
  await message.getByText('Cannot be shown').waitFor();
  const after = await message.boundingBox();
  assert.deepEqual(after, before);
});

for (const [size, options] of Object.entries(SIZES)) {
  scenario(`the files of a room: ${size}`, async (context) => {
    const { ada } = await room(context, options);
    const { page } = ada;
    const panel = page.getByRole('complementary', { name: 'Files' });
    const names = () => panel.locator('.name').allInnerTexts();
    await page.getByRole('button', { name: 'Files', exact: true }).click();
    await panel.getByText('Nobody has attached a file here yet.').waitFor();
    await panel.getByRole('button', { name: 'Close the list of files' }).click();
    for (let n = 0; n < 6; n += 1) {
      await post(ada, Array.from({ length: 10 }, (_, i) => text(`${n}-${i}.txt`, 'x'.repeat(n + 1))), `message ${n}`);
    }
    await page.getByRole('button', { name: 'Files', exact: true }).click();
    await panel.getByText('6 bytes · Today').first().waitFor();
    await ada.inspect(`room-files-${size}`);
    const newestFirst = [5, 4, 3, 2, 1, 0].flatMap((n) => Array.from({ length: 10 }, (_, i) => `${n}-${i}.txt`));
    await until('all of the first page are there', PATIENCE_MS, async () => (await names()).join() === newestFirst.slice(0, 50).join());
    await panel.getByRole('button', { name: 'Show older files' }).click();
    await until('all are there', PATIENCE_MS, async () => (await names()).length === 60);
    assert.deepEqual(await names(), newestFirst);
    const file = await download(ada, panel.getByRole('link', { name: 'Download 3-0.txt' }));
    assert.deepEqual([file.name, file.bytes.length], ['3-0.txt', 4]);
    await panel.getByRole('link', { name: /^0-0\.txt/ }).click();
    await ada.message('message 0').waitFor();
    if (size === 'phone') {
      await panel.waitFor({ state: 'detached' });
      return;
    }
    // What happens in the room shows at once.
    await page.getByRole('button', { name: 'Jump to present' }).click();
    await post(ada, [picture('shed.png', 640, 360, [90, 140, 120]), text('notes.txt', 'x')], 'one more');
    await panel.getByRole('link', { name: 'Download shed.png' }).waitFor();
    await ada.message('one more').hover();
    await page.getByRole('button', { name: 'Delete notes.txt' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete', exact: true }).click();
    await panel.getByRole('link', { name: 'Download notes.txt' }).waitFor({ state: 'detached' });
    await page.getByRole('button', { name: /^Members/ }).click();
    await page.getByRole('complementary', { name: 'Members' }).waitFor();
    assert.equal(await panel.count(), 0);
  });
}

scenario('one file and a whole message are deleted after a question', async (context) => {
  const { server } = context;
  const { owner, roomId, ada } = await room(context);
  const dialog = ada.page.getByRole('dialog');
  await post(ada, [text('keep.txt', 'k'), text('remove.txt', 'r')], 'two files');
  const href = await ada.timeline.getByRole('link', { name: /^remove\.txt/ }).getAttribute('href');
  await ada.message('two files').hover();
  await ada.page.getByRole('button', { name: 'Delete remove.txt' }).click();
  await ada.page.getByRole('dialog', { name: 'Delete remove.txt?' }).waitFor();
  await ada.inspect('files-delete');
  await dialog.getByRole('button', { name: 'Keep' }).click();
  await dialog.waitFor({ state: 'detached' });
  assert.equal(await ada.timeline.locator('.file').count(), 2);
  await ada.page.getByRole('button', { name: 'Delete remove.txt' }).click();
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await ada.timeline.getByRole('link', { name: /^remove\.txt/ }).waitFor({ state: 'detached' });
  assert.equal((await fetch(new URL(href, server.url))).status, 404);
  await ada.timeline.getByRole('link', { name: /^keep\.txt/ }).waitFor();

  ada.expected.push(/status of 404/);
  await ada.page.route('**/chatto.api.v1.MessageService/DeleteMessage', (route) =>
    route.fulfill({ status: 400, contentType: 'application/json', body: '{"code":"failed_precondition","message":"room is archived"}' }),
  );
  ada.expected.push(/status of 400/);
  await ada.message('two files').hover();
  await ada.message('two files').getByRole('button', { name: 'Delete this message' }).click();
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await dialog.getByText('Room is archived.').waitFor();
  await ada.page.unroute('**/chatto.api.v1.MessageService/DeleteMessage');
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await ada.timeline.getByText('This message was deleted.').waitFor();
  await until('the focus is where the message was', PATIENCE_MS, () => ada.timeline.evaluate((node) => node === document.activeElement));
  assert.deepEqual(await server.texts(owner, roomId), []);

  await server.post(await server.person(owner, 'grace', 'Grace').then(async (grace) => (await server.join(grace, 'general'), grace)), roomId, 'not yours');
  await ada.message('not yours').hover();
  assert.equal(await ada.message('not yours').getByRole('button', { name: /^Delete/ }).count(), 0);
});
