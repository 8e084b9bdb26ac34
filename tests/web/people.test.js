// From the setup link to a conversation, as people do it.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after } from 'node:test';
import { scenario, SIZES } from './support/fixture.js';
import { png } from './support/media.js';
import { PASSWORD } from './support/server.js';

/** What the page of a setup or join link asks for. */
async function fillAccount(guest, login, name) {
  await guest.page.getByLabel('Login', { exact: true }).fill(login);
  await guest.page.getByLabel('Name others see').fill(name);
  await guest.page.getByLabel('Password').fill(PASSWORD);
  await guest.page.getByRole('button', { name: 'Create account' }).click();
  await guest.page.getByRole('heading', { name: 'You are in' }).waitFor();
  await guest.inspect();
  await guest.page.getByRole('link', { name: 'Open the chat' }).click();
}

async function joinGeneral(guest) {
  await guest.page.getByRole('link', { name: 'All rooms' }).click();
  await guest.page.getByRole('button', { name: 'Join general' }).click();
  await guest.composer.waitFor();
}

scenario('from the setup link to the tenth message, and a second person replies live', async ({ server, open }) => {
  const ada = await open();
  await ada.page.goto(server.setupLink());
  await ada.page.getByRole('heading', { name: 'Welcome, first owner' }).waitFor();
  await ada.inspect();
  await fillAccount(ada, 'ada', 'Ada Lovelace');
  assert.equal(new URL(ada.page.url()).hash, '', 'the secret is no longer in the address bar');
  await joinGeneral(ada);
  await ada.inspect();
  for (let n = 1; n <= 10; n += 1) await ada.write(`message number ${n}`);
  await ada.message('message number 10').waitFor();
  const texts = await ada.timeline.locator('.body').allInnerTexts();
  assert.deepEqual(texts, Array.from({ length: 10 }, (_, n) => `message number ${n + 1}`));

  await ada.page.getByRole('button', { name: 'Add a person' }).click();
  await ada.page.getByLabel(/^Name others will see/).fill('Grace Hopper');
  await ada.inspect();
  await ada.page.getByRole('button', { name: 'Make a link' }).click();
  await ada.page.getByRole('img', { name: 'The join link as a QR code' }).waitFor();
  await ada.inspect();
  const link = await ada.page.getByLabel('Join link', { exact: true }).inputValue();
  await ada.page.getByRole('button', { name: 'Add another' }).click();
  await ada.page.getByLabel(/^Name others will see/).fill('Mallory');
  await ada.page.getByRole('button', { name: 'Make a link' }).click();
  await ada.page.getByText('Give this link to Mallory').waitFor();
  const revoked = await ada.page.getByLabel('Join link', { exact: true }).inputValue();
  await ada.page.getByRole('button', { name: 'Add another' }).click();
  await ada.page.getByRole('heading', { name: 'Links nobody has used yet' }).waitFor();
  await ada.inspect();
  await ada.page.getByRole('button', { name: 'Revoke the link for Mallory' }).click();
  await ada.page.getByRole('button', { name: 'Revoke the link for Mallory' }).waitFor({ state: 'detached' });
  await ada.page.getByRole('button', { name: 'Revoke the link for Grace Hopper' }).waitFor();
  await ada.page.getByRole('dialog').press('Escape');

  const grace = await open();
  grace.expected.push(/status of 400/);
  await grace.page.goto(revoked);
  await grace.page.getByText('This link is invalid, used or expired').waitFor();
  await grace.page.goto(link);
  await grace.page.getByRole('heading', { name: /^Join / }).waitFor();
  assert.equal(await grace.page.getByLabel('Name others see').inputValue(), 'Grace Hopper');
  assert.ok(!(await grace.page.getByLabel('Name others see').isEditable()), 'the link fixed it');
  await grace.page.getByLabel('Login', { exact: true }).fill('ada');
  await grace.page.getByLabel('Password').fill('short');
  await grace.page.getByRole('button', { name: 'Create account' }).click();
  await grace.page.getByText('Between 8 and 128 characters.').waitFor();
  await grace.inspect();
  await grace.page.getByLabel('Password').fill(PASSWORD);
  grace.expected.push(/status of 409/);
  await grace.page.getByRole('button', { name: 'Create account' }).click();
  await grace.page.getByRole('alert').filter({ hasText: 'taken' }).waitFor();
  await grace.page.getByLabel('Login', { exact: true }).fill('grace');
  await grace.page.getByRole('button', { name: 'Create account' }).click();
  await grace.page.getByRole('link', { name: 'Open the chat' }).click();
  await joinGeneral(grace);
  await grace.message('message number 10').waitFor();

  await grace.composer.pressSequentially('Nine ships');
  await ada.page.getByText('Grace Hopper is typing…').waitFor();
  await grace.composer.press('Enter');
  await ada.message('Nine ships').waitFor();
  await ada.page.getByText('Grace Hopper is typing…').waitFor({ state: 'detached' });
  assert.match(await ada.page.locator('[aria-live=polite]').first().innerText(), /Grace Hopper: Nine ships/);
  const members = ada.page.getByRole('complementary', { name: 'Members' });
  await members.getByRole('listitem').filter({ hasText: 'Grace Hopper' }).filter({ hasText: 'online' }).waitFor();
  await grace.page.close();
  await grace.context.close();
  await members.getByRole('listitem').filter({ hasText: 'Grace Hopper' }).filter({ hasText: 'offline' }).waitFor({ timeout: 90_000 });
});

scenario('a link that is used up, broken or without its secret says what to do', async ({ server, open }) => {
  const guest = await open();
  const link = server.setupLink();
  await server.owner();
  for (const address of [link, `${server.url}/setup#nonsense`, `${server.url}/setup`]) {
    guest.expected.push(/status of 400/);
    await guest.page.goto('about:blank');
    await guest.page.goto(address);
    await guest.page.getByRole('heading', { name: 'This link does not work' }).waitFor();
    await guest.inspect();
  }
  const lost = await guest.goto('/setup/nowhere');
  assert.equal(lost.status(), 404);
  guest.expected.push(/status of 404/);
  await guest.inspect();
});

scenario('log-in says what went wrong: wrong, throttled, server away', async ({ server, open }) => {
  await server.owner();
  const guest = await open();
  // A page that found no server is loaded again by the browser, perhaps while the server is starting.
  guest.expected.push(/status of 401/, /status of 429/, /status of 503/, /ERR_CONNECTION_REFUSED/);
  await guest.goto('/');
  const submit = guest.page.getByRole('button', { name: /^Log/ });
  await guest.page.getByLabel('Login or e-mail').fill('ada');
  await guest.page.getByLabel('Password').fill('wrong password');
  await submit.click();
  await guest.page.getByText('Login or password is wrong.').waitFor();
  await guest.inspect();
  const throttled = guest.page.getByText(/Too many attempts from here\. Try again in \d+ s\./);
  for (let tries = 0; tries < 60 && !(await throttled.isVisible()); tries += 1) {
    await guest.page.getByRole('button', { name: 'Log in', exact: true }).waitFor();
    await submit.click();
    await guest.page.waitForFunction(() => !document.querySelector('form button')?.textContent?.includes('Logging in'));
  }
  assert.ok(await throttled.isVisible());
  assert.ok(await submit.isDisabled(), 'it waits as long as the server says');
  await guest.inspect();
  await server.kill();
  await guest.page.reload().catch(() => {});
  await server.run();
  await guest.goto('/login');
  await guest.page.getByLabel('Login or e-mail').fill('ada');
  await guest.page.getByLabel('Password').fill(PASSWORD);
  await server.kill();
  await submit.click();
  await guest.page.getByText('The server cannot be reached. Check the connection and try again.').waitFor();
  await server.run();
  await submit.click();
  await guest.page.getByRole('navigation', { name: 'Rooms' }).waitFor();
});

scenario('rooms: made, found, joined, left, unread, and where they lead when they are gone', async ({ server, open }) => {
  const owner = await server.owner();
  const bob = await server.person(owner, 'bob', 'Bob');
  const general = await server.join(bob, 'general');
  await server.join(owner, 'general');
  const ada = await open();
  await ada.login('ada');
  await ada.page.getByRole('link', { name: 'All rooms' }).click();
  await ada.inspect();
  await ada.page.getByRole('button', { name: 'New room' }).click();
  await ada.inspect();
  await ada.page.getByLabel('Name').fill('General');
  ada.expected.push(/status of 409/);
  await ada.page.getByRole('button', { name: 'Make the room' }).click();
  await ada.page.getByText('A room with this name already exists.').waitFor();
  await ada.page.getByLabel('Name').fill('Garden & <b>Pond</b>');
  await ada.page.getByLabel(/^What it is for/).fill('Frogs, fish and everything that grows');
  await ada.page.getByRole('button', { name: 'Make the room' }).click();
  await ada.page.getByRole('heading', { name: 'This is the beginning of #Garden & <b>Pond</b>' }).waitFor();
  await ada.inspect();

  await server.post(bob, general, 'unread by Ada');
  const link = ada.page.getByRole('navigation').getByRole('link', { name: /^general/ });
  await link.getByText('unread').waitFor();
  assert.match(await ada.page.title(), /^• /);
  await ada.inspect();
  await link.click();
  await ada.message('unread by Ada').waitFor();
  await link.getByText('unread').waitFor({ state: 'detached' });
  assert.doesNotMatch(await ada.page.title(), /^• /);

  await ada.page.getByRole('button', { name: 'Leave general' }).click();
  await ada.inspect();
  await ada.page.getByRole('dialog').getByRole('button', { name: 'Leave' }).click();
  await ada.page.getByRole('heading', { name: 'You are not in this room' }).waitFor();
  await ada.inspect();
  assert.equal(await ada.message('unread by Ada').count(), 0);
  await ada.page.getByRole('button', { name: 'Join general' }).click();
  await ada.message('unread by Ada').waitFor();

  await ada.goto('/chat/-/Rnothing00000000');
  await ada.page.getByRole('heading', { name: 'This room is not here' }).waitFor();
  await ada.inspect();
  await ada.goto('/no/such/page');
  await ada.page.getByRole('heading', { name: 'There is no such page' }).waitFor();
});

scenario('a session that ends elsewhere ends here, with a word why', async ({ server, open }) => {
  const owner = await server.owner();
  await server.join(owner, 'general');
  const one = await open();
  await one.login('ada');
  const two = await open({ context: one.context });
  await two.goto('/');
  await two.composer.fill('half a sentence');
  await one.page.getByRole('button', { name: 'Log out' }).click();
  await one.page.getByRole('heading', { name: 'Log in' }).waitFor();
  assert.equal(await one.page.getByText('You logged out in another window.').count(), 0);
  await two.page.getByText('You logged out in another window.').waitFor();
  await two.inspect();
  const cookies = await one.context.cookies();
  assert.ok(!cookies.some(({ name }) => name === 'chatto_session'), 'nothing of the session stays');
  const kept = await one.page.evaluate(() => JSON.stringify(localStorage));
  assert.ok(!kept.includes('half a sentence'), kept);

  await one.login('ada');
  const other = await open();
  await other.login('ada');
  await other.composer.fill('not lost');
  await one.page.reload();
  await one.composer.waitFor();
  server.command('user', 'set-password', 'ada', '--password', 'another fine password');
  await other.page.getByText(/password was (changed|reset)/).waitFor();
  await other.login('ada', 'another fine password');
  assert.equal(await other.composer.inputValue(), 'not lost', 'the same person finds the text again');
});

for (const [size, options] of Object.entries(SIZES)) {
  scenario(`a picture of oneself: chosen, cut, seen by others, removed: ${size}`, async ({ server, open }) => {
    const owner = await server.owner();
    const grace = await server.person(owner, 'grace', 'Grace');
    for (const person of [owner, grace]) await server.join(person, 'general');
    const other = await open();
    await other.login('grace');
    const ada = await open(options);
    // Of the test, which looks at single pixels.
    ada.expected.push(/willReadFrequently/);
    await ada.login('ada');
    if (size === 'phone') await ada.goto('/');
    const { page } = ada;
    const dialog = page.getByRole('dialog', { name: 'Your picture' });
    const choose = async (button, name, buffer) => {
      const [chooser] = await Promise.all([page.waitForEvent('filechooser'), dialog.getByRole('button', { name: button }).click()]);
      await chooser.setFiles({ name, mimeType: 'image/png', buffer });
    };
    await page.getByRole('button', { name: 'Your picture' }).click();
    await choose('Choose a picture', 'notes.png', Buffer.from('no picture'));
    await dialog.getByText('notes.png cannot be shown as a picture.').waitFor();
    await choose('Choose a picture', 'halves.png', png(900, 300, [200, 0, 0], [0, 0, 200]));
    const colour = (at) => dialog.locator('canvas').evaluate((canvas, x) => [...canvas.getContext('2d').getImageData(x, 128, 1, 1).data].slice(0, 3), at);
    assert.deepEqual([await colour(40), await colour(216)], [[200, 0, 0], [0, 0, 200]], 'the middle of the picture');
    await ada.inspect(`avatar-${size}`);
    await dialog.getByLabel('Left and right').fill('1');
    assert.deepEqual([await colour(40), await colour(216)], [[0, 0, 200], [0, 0, 200]]);
    await dialog.locator('canvas').hover();
    await page.mouse.down();
    const { x, y } = await dialog.locator('canvas').boundingBox();
    await page.mouse.move(x + 2_000, y, { steps: 3 });
    await page.mouse.up();
    assert.deepEqual(await colour(40), [200, 0, 0], 'dragged to the other end');
    await dialog.getByLabel('Zoom').fill('2');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.waitFor({ state: 'detached' });
    const seen = other.page.getByRole('complementary', { name: 'Members' }).locator('li').filter({ hasText: 'Ada Lovelace' }).locator('img');
    await seen.evaluate((image) => image.decode());
    const pixel = await seen.evaluate((image) => {
      const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
      const context = canvas.getContext('2d');
      context.drawImage(image, 0, 0, 1, 1);
      return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
    });
    assert.ok(pixel[0] > 180 && pixel[2] < 20, `it is red: ${pixel}`);
    await other.inspect('avatar-seen');
    await page.getByRole('button', { name: 'Your picture' }).click();
    await dialog.getByRole('button', { name: 'Remove' }).click();
    await dialog.waitFor({ state: 'detached' });
    await seen.waitFor({ state: 'detached' });
  });
}

scenario('no credential lies where scripts can read it', async ({ server, open }) => {
  const owner = await server.owner();
  await server.join(owner, 'general');
  const ada = await open();
  await ada.login('ada');
  await ada.write('hello');
  await ada.message('hello').waitFor();
  const seen = await ada.page.evaluate(() => ({
    local: JSON.stringify(localStorage),
    session: JSON.stringify(sessionStorage),
    cookie: document.cookie,
  }));
  const cookies = await ada.context.cookies();
  const secret = cookies.find(({ name }) => name === 'chatto_session');
  assert.ok(secret.httpOnly && secret.sameSite === 'Lax');
  for (const text of Object.values(seen)) {
    assert.ok(!text.includes(secret.value) && !text.includes('cht_AT') && !text.includes(PASSWORD), text);
  }
});

scenario('names and texts that want to be markup stay text', async ({ server, open }) => {
  const owner = await server.owner('ada', 'Ada');
  const room = await server.join(owner, 'general');
  const eve = await server.person(owner, 'eve', 'Eve onerror alert.1');
  await server.join(eve, 'general');
  const texts = [
    '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>',
    '[click](javascript:window.hacked=1) [two](JaVaScRiPt:alert(1)) [three](data:text/html,x) [four](vbscript:x)',
    '[safe](https://example.org/a_b?c=d) <https://example.org/angle> https://example.org/(x)).',
    '[user](https://trusted.example@evil.example/) https://user:pass@evil.example/',
    '`<b>code</b>` **<i>bold</i>** &lt;b&gt; &amp;',
    '```html\n<script>window.hacked=1</script>\n```',
    `${'*'.repeat(3000)}${'['.repeat(2000)}${'`'.repeat(999)} ${'> '.repeat(500)}x`,
    '\u202Eesrever \u200Bzero\u0301\u0301\u0301 width',
    '@eve <@eve> @nobody',
  ];
  for (const text of texts) await server.post(eve, room, text);
  const ada = await open();
  await ada.login('ada');
  await ada.timeline.locator('.mention').first().waitFor();
  assert.equal(await ada.page.evaluate(() => window.hacked), undefined);
  assert.equal(await ada.timeline.locator('img, script, iframe, b, i').count() - (await ada.timeline.locator('i.presence').count()), 0);
  const links = await ada.timeline.locator('.body a').evaluateAll((all) => all.map((one) => [one.getAttribute('href'), one.rel, one.target]));
  assert.deepEqual(
    links.map(([href]) => href),
    ['https://example.org/a_b?c=d', 'https://example.org/angle', 'https://example.org/(x)'],
  );
  for (const [, rel, target] of links) assert.deepEqual([rel, target], ['noopener noreferrer nofollow', '_blank']);
  await ada.message('<img src=x').getByText('<script>').waitFor();

  // Nor does a text cost more than its length.
  const slowest = await ada.page.evaluate(async () => {
    const script = performance.getEntriesByType('resource').find(({ name }) => /\/markdown\.[^/]+\.js$/.test(name)).name;
    const module = await import(script);
    const render = Object.values(module).find((one) => one.length === 2);
    const context = { mention: () => undefined };
    const times = [];
    for (const piece of [
      '*', '**', '_a', '~~', '[', '](', '[a](', '`', '` `` ```', '> ', '- ', '1. ', '#', '# ', ' ', '\n', '\\', '@a', '@a.', 'http://',
      'https://a.b/(', 'https://a.b/)', '***a**', '- a\n  ', '> a\n', '```\n', '``` `\n', '- - ', '\t', 'ab cd ', '\u0000', '<a href=',
      // What has been slow in parsers: see `pathological` in CommonMark's own tests.
      '![[[', '![', '[](', '[a](<b', '[[a]]', '[a][b]', '[a]: b\n', '[*', '_[*', '<', '<!--', '<?', '<![CDATA[', '&', '&amp;', '&#', '*a_b ', '*a_ ',
      'a**b', '*a **a ', '~~a ', '|', 'a|', '|\n', '|-|\n', 'a|b\n-|-\n\n', '>', '>- 1. ', '- a\n\n', 'a\n===\n', '~~~\n', 'a@b.c ', 'mailto:a@b.c ', 'http://a.b&amp;',
    ]) {
      for (const text of [piece.repeat(10_000 / piece.length), `${'x'.repeat(5)}${piece.repeat(9_000 / piece.length)}x`, `# ${piece.repeat(9_000 / piece.length)}`]) {
        const begun = performance.now();
        render(text, context);
        times.push([performance.now() - begun, piece]);
      }
    }
    const repeat = (count, piece) => Array.from({ length: count }, (_, n) => piece(n)).join('');
    for (const text of [
      `${'['.repeat(5_000)}a${']'.repeat(4_999)}`,
      `${'['.repeat(1_600)}a${'](b)'.repeat(1_600)}`,
      `${'![a]('.repeat(1_600)}b${')'.repeat(1_600)}`,
      `${'*a '.repeat(1_600)}b${'*'.repeat(1_600)}`,
      `${'*a **a '.repeat(700)}b${'** a*'.repeat(900)}`,
      repeat(140, (n) => `e${'`'.repeat(n)}`),
      repeat(98, (n) => `${'  '.repeat(n)}- a\n`),
      repeat(80, (n) => `${'   '.repeat(n)}1. a\n`),
      repeat(139, (n) => `${'>'.repeat(n)}a\n`),
      `${repeat(500, (n) => `[a${n}]: b\n`)}${repeat(600, (n) => `[a${n}]`)}`,
      ...['\n', '\r'].flatMap((end) =>
        [10, 49, 100, 1_000].map((columns) => `${'a|'.repeat(columns)}${end}${'-|'.repeat(columns)}${end}${`a${end}`.repeat(5_000)}`.slice(0, 10_000)),
      ),
      `https://a.b/${')'.repeat(9_900)}`,
      `# a${' '.repeat(9_900)}b`,
    ]) {
      const begun = performance.now();
      render(text, context);
      times.push([performance.now() - begun, text.slice(0, 40)]);
    }
    return times.sort(([a], [b]) => b - a)[0];
  });
  assert.ok(slowest[0] < 250, `${slowest}`);
});

scenario('who is new is led to the rooms; a server with another address says so', async ({ server, open }) => {
  const owner = await server.owner();
  await server.person(owner, 'bob', 'Bob');
  const bob = await open();
  await bob.login('bob');
  await bob.page.getByText('Welcome, Bob! Join a room to read and write there.').waitFor();
  await bob.inspect();
  await bob.page.getByRole('link', { name: 'Open announcements' }).click();
  await bob.page.getByText('Only some people may write here.').waitFor();
  await bob.inspect();
  await bob.page.getByRole('link', { name: 'All rooms' }).click();
  await bob.page.getByLabel('Search rooms').fill('GENER');
  assert.equal(await bob.page.locator('.card').count(), 1);
  await bob.page.getByLabel('Search rooms').fill('no such room');
  await bob.page.getByText('No room is called like that.').waitFor();
});

scenario('a part that cannot be loaded says so', async ({ server, open }) => {
  const owner = await server.owner();
  await server.join(owner, 'general');
  const ada = await open();
  ada.expected.push(/status of 404/, /Failed to fetch dynamically imported module/);
  await ada.login('ada');
  await ada.page.route(/\/Browse\.[^/]+\.js$/, (route) => route.fulfill({ status: 404, body: '' }));
  await ada.page.getByRole('link', { name: 'All rooms' }).click();
  await ada.page.getByText('This part could not be loaded.').waitFor();
  await ada.page.unrouteAll();
  await ada.page.getByRole('button', { name: 'Load the page anew' }).click();
  await ada.page.getByRole('heading', { name: 'All rooms' }).waitFor();
});

scenario(
  'under a foreign address the log-in explains itself',
  async ({ server, open }) => {
    await server.owner();
    const ada = await open();
    await ada.goto('/login');
    await ada.page.getByLabel('Login or e-mail').fill('ada');
    await ada.page.getByLabel('Password').fill(PASSWORD);
    await ada.page.getByRole('button', { name: 'Log in' }).click();
    await ada.page.getByText(/the server takes sessions under its own address only/).waitFor();
    await ada.inspect();
  },
  { env: { CHATTO_WEBSERVER_URL: 'http://127.0.0.1:9' } },
);

const other = fs.mkdtempSync(path.join(os.tmpdir(), 'chatto-other-client-'));
fs.writeFileSync(path.join(other, '200.html'), '<!doctype html><html lang="en"><title>Other</title><main><h1>Another client</h1></main>');

scenario(
  'the pages of links work beside another client',
  async ({ server, open }) => {
    const ada = await open();
    await ada.page.goto(server.setupLink());
    await fillAccount(ada, 'ada', 'Ada');
    await ada.page.getByRole('heading', { name: 'Another client' }).waitFor();
  },
  { env: { CHATTO_WEBSERVER_CLIENT_DIR: other } },
);

after(() => fs.rmSync(other, { recursive: true, force: true }));
