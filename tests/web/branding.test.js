// The server's logo and banner: an owner sets and removes them, everybody sees them.
import assert from 'node:assert/strict';
import { scenario, SIZES } from './support/fixture.js';
import { png } from './support/media.js';

const RED = [200, 0, 0];
const BLUE = [0, 0, 200];

/** The colours of an image or a canvas at a quarter and at three quarters of its width. */
const colours = (element) =>
  element.evaluate(async (source) => {
    if (source instanceof HTMLImageElement) await source.decode();
    const canvas = Object.assign(document.createElement('canvas'), { width: 4, height: 1 });
    const context = canvas.getContext('2d');
    context.drawImage(source, 0, 0, 4, 1);
    const { data } = context.getImageData(0, 0, 4, 1);
    return [[...data.slice(0, 3)], [...data.slice(12, 15)]];
  });

const isNear = (colour, other) => colour.every((value, n) => Math.abs(value - other[n]) < 24);

for (const [size, options] of Object.entries(SIZES)) {
  scenario(`the server's logo and banner: set, seen by others, removed: ${size}`, async ({ server, open }) => {
    const owner = await server.owner();
    const grace = await server.person(owner, 'grace', 'Grace');
    for (const person of [owner, grace]) await server.join(person, 'general');
    const other = await open(options);
    await other.login('grace');
    await other.goto('/rooms');
    await other.page.getByRole('heading', { name: 'All rooms' }).waitFor();
    assert.equal(await other.page.getByRole('button', { name: 'Logo and banner' }).count(), 0, 'others do not change them');

    const ada = await open(options);
    await ada.login('ada');
    if (size === 'phone') await ada.goto('/');
    const { page } = ada;
    const opener = page.getByRole('button', { name: 'Logo and banner' });
    await opener.click();
    const dialog = page.getByRole('dialog', { name: 'Logo and banner' });
    const part = (name) => dialog.getByRole('region', { name });
    const choose = async (name, buffer) => {
      const button = part(name).getByRole('button', { name: /^Choose/ });
      const [chooser] = await Promise.all([page.waitForEvent('filechooser'), button.click()]);
      await chooser.setFiles({ name: 'picture.png', mimeType: 'image/png', buffer });
    };
    await part('Banner').getByText('There is no banner yet.').waitFor();
    await ada.inspect(`branding-none-${size}`);

    await choose('Logo', Buffer.from('no picture'));
    await part('Logo').getByText('picture.png cannot be shown as a picture.').waitFor();
    await choose('Logo', png(900, 300, RED, BLUE));
    assert.deepEqual(await colours(part('Logo').locator('canvas')), [RED, BLUE], 'the middle of the picture');
    await part('Logo').getByLabel('Left and right').fill('1');
    assert.deepEqual(await colours(part('Logo').locator('canvas')), [BLUE, BLUE]);
    await ada.inspect(`branding-logo-${size}`);
    await part('Logo').getByRole('button', { name: 'Save' }).click();
    await part('Logo').getByText('Saved.').waitFor();
    await part('Logo').getByRole('img', { name: 'The logo' }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Choose a logo', 'the focus is not lost');

    // Twice as high as wide: only its middle is wide enough.
    await choose('Banner', png(600, 1200, RED, BLUE));
    const cut = await part('Banner').locator('canvas').boundingBox();
    assert.ok(Math.abs(cut.width / cut.height - 3) < 0.05, `${cut.width} × ${cut.height}`);
    assert.ok(await part('Banner').getByLabel('Left and right').isDisabled(), 'it is as wide as the picture');
    await ada.inspect(`branding-banner-${size}`);
    await part('Banner').getByRole('button', { name: 'Save' }).click();
    await part('Banner').getByText('Saved.').waitFor();
    await part('Banner').getByRole('img', { name: 'The banner' }).waitFor();
    await ada.inspect(`branding-set-${size}`);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.equal(overflow, 0, 'nothing sticks out at the side');
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    const logo = page.getByRole('navigation', { name: 'Rooms' }).locator('header img');
    assert.ok((await colours(logo)).every((colour) => isNear(colour, BLUE)));
    await ada.inspect(`branding-rooms-${size}`);

    // Others see both at once.
    const banner = other.page.locator('.server-banner');
    await banner.waitFor();
    const [left, right] = await colours(banner);
    assert.ok(isNear(left, RED) && isNear(right, BLUE), `${left} ${right}`);
    await other.inspect(`branding-directory-${size}`);
    const guest = await open(options);
    await guest.goto('/login');
    await guest.page.locator('.brand img[src^="/assets/server/"]').waitFor();
    await guest.inspect(`branding-login-${size}`);
    const icon = await fetch(`${server.url}/favicon`);
    assert.equal(icon.headers.get('content-type'), 'image/jpeg');

    await opener.click();
    for (const name of ['Logo', 'Banner']) {
      await part(name).getByRole('button', { name: 'Remove' }).click();
      await part(name).getByText('Removed.').waitFor();
      await part(name).getByText(/^There is no/).waitFor();
    }
    await page.keyboard.press('Escape');
    await banner.waitFor({ state: 'detached' });
    assert.equal((await fetch(`${server.url}/favicon`)).headers.get('content-type'), 'image/svg+xml');
  });
}
