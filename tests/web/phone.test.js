// With the thumb and without a pointer: a phone, and the keyboard alone.
import assert from 'node:assert/strict';
import { scenario, SIZES } from './support/fixture.js';

scenario('on a phone: rooms, a room, its members and back', async ({ server, open }) => {
  const owner = await server.owner();
  await server.join(owner, 'general');
  const ada = await open(SIZES.phone);
  await ada.login('ada');
  assert.equal(await ada.composer.count(), 0, 'one thing at a time');
  await ada.inspect();
  await ada.page.getByRole('link', { name: /^general/ }).tap();
  await ada.composer.tap();
  await ada.composer.fill('first line');
  await ada.composer.press('Enter');
  await ada.composer.pressSequentially('second line');
  await ada.inspect();
  await ada.page.getByRole('button', { name: 'Send' }).tap();
  await ada.message('first line').waitFor();
  assert.equal(await ada.message('first line').locator('.body').innerText(), 'first line\nsecond line');
  await ada.page.getByRole('button', { name: /^Members/ }).tap();
  await ada.page.getByRole('complementary', { name: 'Members' }).waitFor();
  await ada.inspect();
  await ada.page.getByRole('button', { name: 'Close the list of members' }).tap();
  const overflow = await ada.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.equal(overflow, 0, 'nothing sticks out at the side');
  await ada.page.getByRole('link', { name: 'Back to the rooms' }).tap();
  await ada.page.getByRole('navigation', { name: 'Rooms' }).waitFor();
  await ada.page.goBack();
  await ada.composer.waitFor();
});

/** Presses Tab until something with this name has the focus. */
async function tabTo(guest, name, keys = 'Tab') {
  const seen = [];
  for (let n = 0; n < 60; n += 1) {
    await guest.page.keyboard.press(keys);
    const focused = await guest.page.evaluate(() => {
      const node = document.activeElement;
      // Between the last thing and the first the focus is nowhere.
      if (node === document.body) return { name: '', isVisible: true };
      const style = getComputedStyle(node);
      return {
        name: (node.getAttribute('aria-label') ?? node.labels?.[0]?.innerText ?? node.innerText ?? '').trim(),
        isVisible: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
      };
    });
    seen.push(focused.name);
    assert.ok(focused.isVisible, `the focus is seen on ${focused.name}`);
    if (name.test(focused.name)) return;
  }
  assert.fail(`${name} was not reached: ${seen.join(' | ')}`);
}

scenario('everything with the keyboard', async ({ server, open }) => {
  await server.owner();
  const ada = await open();
  await ada.goto('/');
  await ada.page.getByLabel('Login or e-mail').waitFor();
  await ada.page.waitForFunction(() => document.activeElement?.id === 'identifier');
  const { keyboard } = ada.page;
  await keyboard.type('ada');
  await keyboard.press('Tab');
  await keyboard.type('correct horse battery');
  await keyboard.press('Enter');
  await ada.page.getByRole('navigation', { name: 'Rooms' }).waitFor();
  await tabTo(ada, /^All rooms/);
  await keyboard.press('Enter');
  await ada.page.getByRole('heading', { name: 'All rooms' }).waitFor();
  await tabTo(ada, /^New room/);
  await keyboard.press('Enter');
  await ada.page.getByRole('dialog').waitFor();
  await tabTo(ada, /^Name/);
  await keyboard.type('garden');
  await keyboard.press('Enter');
  await ada.composer.waitFor();
  await ada.page.waitForFunction(() => document.activeElement?.id === 'composer');
  await keyboard.type('from the keyboard');
  await keyboard.press('Shift+Enter');
  await keyboard.type('two lines');
  await keyboard.press('Enter');
  await ada.message('from the keyboard').locator('a.time').waitFor();
  await tabTo(ada, /^\d/, 'Shift+Tab');
  await keyboard.press('Enter');
  assert.match(ada.page.url(), /\/m\/E/, 'a message has an address');
  await keyboard.press('Escape');
  assert.ok(await ada.composer.evaluate((node) => node === document.activeElement));
  await tabTo(ada, /^Leave garden$/);
  await keyboard.press('Enter');
  await ada.page.getByRole('dialog').waitFor();
  await keyboard.press('Escape');
  await ada.page.getByRole('dialog').waitFor({ state: 'detached' });
  await ada.page.waitForFunction(() => document.activeElement?.textContent === 'Leave garden');
  await tabTo(ada, /^Log out$/, 'Shift+Tab');
  await keyboard.press('Enter');
  await ada.page.getByRole('heading', { name: 'Log in' }).waitFor();
});
