// What every browser test gets: a real browser, real servers, and three watchers that make it fail: axe (each
// screen that is inspected, and the last one), the content policy's reports, the console.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { PASSWORD, Server } from './server.js';
import { PATIENCE_MS } from './wait.js';

const AXE = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SCREENSHOTS = process.env.WEB_SCREENSHOTS;

export const SIZES = {
  desktop: { viewport: { width: 1280, height: 800 } },
  phone: { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 },
};

let browser;

before(async () => {
  const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find((one) => fs.existsSync(one));
  assert.ok(executablePath, 'Chromium is missing; install it with: .ci/setup tests');
  browser = await chromium.launch({
    executablePath,
    // Whoever is root, as in containers, has no other way; the pages are our own.
    args: process.getuid() === 0 ? ['--no-sandbox'] : [],
  });
});

after(() => browser?.close());

/** One window of one person. */
class Guest {
  errors = [];
  /** Patterns of console lines that the test causes on purpose. */
  expected = [];

  static async open(server, options) {
    const guest = new Guest();
    guest.server = server;
    guest.context = options.context ?? (await browser.newContext({ locale: 'en-GB', ...SIZES.desktop, ...options }));
    guest.page = await guest.context.newPage();
    guest.page.setDefaultTimeout(PATIENCE_MS);
    guest.page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) guest.errors.push(`${message.text()} ${message.location().url}`);
    });
    guest.page.on('pageerror', (error) => guest.errors.push(String(error.stack ?? error)));
    await guest.page.exposeFunction('reportToTest', (text) => guest.errors.push(text));
    await guest.page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        window.reportToTest(`content policy: ${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    return guest;
  }

  goto(place = '/') {
    return this.page.goto(this.server.url + place);
  }

  async login(login, password = PASSWORD) {
    await this.goto('/login');
    await this.page.getByLabel('Login or e-mail').fill(login);
    await this.page.getByLabel('Password').fill(password);
    await this.page.getByRole('button', { name: 'Log in' }).click();
    await this.page.getByRole('navigation', { name: 'Rooms' }).or(this.composer).first().waitFor();
  }

  get composer() {
    return this.page.getByRole('textbox', { name: /^Message to/ });
  }

  get timeline() {
    return this.page.getByRole('region', { name: /^Messages in/ });
  }

  message(text) {
    return this.timeline.locator('.message').filter({ hasText: text });
  }

  async write(text) {
    await this.composer.fill(text);
    // Without a keyboard Enter makes a line.
    await this.page.getByRole('button', { name: 'Send' }).click();
  }

  /** What the browser reports to the page when somebody switches to another window (`hidden`), or comes back (`visible`). */
  turn(state) {
    return this.page.evaluate((value) => {
      Object.defineProperty(document, 'visibilityState', { value, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, state);
  }

  /** Axe finds nothing on what is shown now; a picture is taken when pictures are wanted. */
  async inspect(name) {
    // What fades in has its colours at the end. The promise of an animation that is cancelled is rejected: that one has ended too.
    await this.page.evaluate(() => Promise.allSettled([document.fonts.ready, ...document.getAnimations().map((one) => one.finished)]));
    if (SCREENSHOTS && name) {
      fs.mkdirSync(SCREENSHOTS, { recursive: true });
      await this.page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`) });
    }
    await this.page.evaluate(AXE);
    const { violations } = await this.page.evaluate(() =>
      window.axe.run(document, { resultTypes: ['violations'] }),
    );
    const found = violations.map((one) => `${one.id}: ${one.help}\n${one.nodes.map((node) => `    ${node.html}\n    ${node.failureSummary}`).join('\n')}`);
    assert.deepEqual(found, [], `axe on ${name ?? this.page.url()}`);
  }

  async finish() {
    if (!this.page.isClosed()) await this.inspect();
    const unexpected = this.errors.filter((line) => !this.expected.some((pattern) => pattern.test(line)));
    assert.deepEqual(unexpected, [], 'the console and the content policy are silent');
  }
}

/** A test with a server of its own and any number of people. */
export function scenario(name, body, { env, timeout = 180_000 } = {}) {
  test(name, { timeout }, async (t) => {
    const server = await Server.start(env);
    const guests = [];
    const open = async (options = {}) => {
      const guest = await Guest.open(server, options);
      guests.push(guest);
      return guest;
    };
    try {
      await body({ server, open, t });
      for (const guest of guests) await guest.finish();
    } catch (error) {
      if (process.env.WEB_TEST_FAILURES) {
        for (const [index, guest] of guests.entries()) {
          const file = path.join(process.env.WEB_TEST_FAILURES, `${name.replace(/\W+/g, '-')}-${index}.png`);
          await guest.page.screenshot({ path: file }).catch(() => {});
        }
      }
      error.message += `\nconsole: ${JSON.stringify(guests.map((guest) => guest.errors))}`;
      throw error;
    } finally {
      for (const guest of guests) await guest.context.close().catch(() => {});
      await server.stop();
    }
  });
}
