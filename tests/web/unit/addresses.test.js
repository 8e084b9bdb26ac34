// Addresses of files that end: renewed before that, and only while somebody sees the file.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clientModule } from '../support/client.js';

const { Addresses } = await clientModule('lib/state/addresses.svelte.ts');

const HOUR_MS = 3_600_000;

const file = (id, expiresAt, kind = 'image') => ({ id, name: id, type: '', kind, width: 0, height: 0, url: `/old/${id}`, preview: `/old/${id}`, expiresAt });
const settled = () => new Promise((resolve) => setImmediate(resolve));

function setup(t) {
  t.mock.timers.enable({ apis: ['setInterval', 'Date'], now: HOUR_MS });
  const asked = [];
  const addresses = new Addresses(async (roomId, ids) => {
    asked.push([roomId, ...ids]);
    return ids.map((id) => ({ id, size: 7, url: `/new/${id}`, preview: `/new/${id}`, expiresAt: Date.now() + 24 * HOUR_MS }));
  });
  return { asked, addresses };
}

test('two minutes before their end addresses are renewed, those of one room together', async (t) => {
  const { asked, addresses } = setup(t);
  const [one, two, later] = [file('A1', 2 * HOUR_MS), file('A2', 2 * HOUR_MS), file('A3', 9 * HOUR_MS)];
  const hide = addresses.show('R1', [one, two, later]);
  t.mock.timers.tick(HOUR_MS - 150_000);
  await settled();
  assert.deepEqual([asked, addresses.of(one).url], [[], '/old/A1']);
  t.mock.timers.tick(30_000);
  await settled();
  assert.deepEqual(asked, [['R1', 'A1', 'A2']]);
  assert.deepEqual([one, two, later].map((each) => addresses.of(each).url), ['/new/A1', '/new/A2', '/old/A3']);
  t.mock.timers.tick(HOUR_MS);
  await settled();
  assert.equal(asked.length, 1, 'new addresses are left alone');
  hide();
  t.mock.timers.tick(48 * HOUR_MS);
  await settled();
  assert.equal(asked.length, 1, 'nobody sees them');
});

test('sizes are asked for once', async (t) => {
  const { asked, addresses } = setup(t);
  const card = file('A1', 20 * HOUR_MS, 'other');
  assert.equal(addresses.sizeOf(card), undefined);
  const hide = addresses.show('R1', [card, file('A2', 20 * HOUR_MS, 'image'), { ...file('A3', 0, 'other'), url: '' }]);
  await settled();
  assert.deepEqual([asked, addresses.sizeOf(card)], [[['R1', 'A1']], 7]);
  hide();
  addresses.show('R1', [card])();
  await settled();
  assert.equal(asked.length, 1);
});

test('a file that came with a newer address keeps it', async (t) => {
  const { addresses } = setup(t);
  await addresses.renew('R1', ['A1']);
  assert.equal(addresses.of(file('A1', 99 * HOUR_MS)).url, '/old/A1');
  assert.equal(addresses.of(file('A1', 2 * HOUR_MS)).url, '/new/A1');
});

test('more than a hundred go in several calls', async (t) => {
  const { asked, addresses } = setup(t);
  await addresses.renew('R1', Array.from({ length: 250 }, (_, n) => `A${n}`));
  assert.deepEqual(asked.map((call) => call.length - 1), [100, 100, 50]);
});

test('a call that failed is repeated at the next look', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval', 'Date'], now: HOUR_MS });
  let calls = 0;
  const addresses = new Addresses(async (_, ids) => {
    calls += 1;
    if (calls === 1) throw new Error('no connection');
    return ids.map((id) => ({ id, size: 1, url: '/new', preview: '/new', expiresAt: 30 * HOUR_MS }));
  });
  const one = file('A1', HOUR_MS + 1_000);
  addresses.show('R1', [one]);
  t.mock.timers.tick(30_000);
  await settled();
  assert.equal(addresses.of(one).url, '/old/A1');
  t.mock.timers.tick(30_000);
  await settled();
  assert.deepEqual([calls, addresses.of(one).url], [2, '/new']);
});
