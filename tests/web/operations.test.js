// What owners are told of the server's operation.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { scenario, SIZES } from './support/fixture.js';

for (const [size, options] of Object.entries(SIZES)) {
  scenario(`owners are told of a failed backup, and nobody else: ${size}`, async ({ server, open }) => {
    const owner = await server.owner();
    const grace = await server.person(owner, 'grace', 'Grace');
    for (const person of [owner, grace]) await server.join(person, 'general');
    // A folder cannot be made in a file.
    fs.writeFileSync(path.join(server.dir, 'file'), '');
    assert.throws(() => server.command('--quiet', 'backup', '-o', 'file/backups/'));

    const ada = await open(options);
    await ada.login('ada');
    const { page } = ada;
    const notices = page.getByRole('status', { name: 'Notices for owners' });
    await notices.getByText('The last backup failed: ').waitFor();
    await ada.inspect(`owner-notice-${size}`);
    const box = await notices.boundingBox();
    assert.ok(box.y === 0 && box.height < 0.4 * options.viewport.height, 'it leaves room for the chat');

    const other = await open(options);
    await other.login('grace');
    await other.page.getByRole('navigation', { name: 'Rooms' }).or(other.composer).first().waitFor();
    assert.equal(await other.page.getByRole('status', { name: 'Notices for owners' }).count(), 0);

    // Hidden in this tab, also after a reload.
    const hide = notices.getByRole('button', { name: /^Hide in this tab/ });
    await hide.focus();
    await page.keyboard.press('Enter');
    await notices.getByText('The last backup failed').waitFor({ state: 'detached' });
    assert.ok(await notices.evaluate((element) => document.activeElement === element), 'the focus is not lost');
    const asked = page.waitForResponse((response) => response.url().endsWith('/api/operations'));
    await page.reload();
    await asked;
    await page.getByRole('navigation', { name: 'Rooms' }).or(ada.composer).first().waitFor();
    await notices.waitFor({ state: 'attached' });
    assert.equal(await notices.getByRole('listitem').count(), 0);

    // Another tab shows it, and no longer after a good backup.
    const second = await open(options);
    await second.login('ada');
    const again = second.page.getByRole('status', { name: 'Notices for owners' });
    await again.getByText('The last backup failed').waitFor();
    server.command('--quiet', 'backup', '-o', 'good.tar.gz');
    await second.turn('visible');
    await again.getByText('The last backup failed').waitFor({ state: 'detached' });
  });
}
