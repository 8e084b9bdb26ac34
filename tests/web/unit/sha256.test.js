// SHA-256 against the examples of FIPS 180-4 and against Node's own, whatever the parts.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { clientModule } from '../support/client.js';

const { Sha256 } = await clientModule('lib/state/sha256.ts');

const hash = (...parts) => parts.reduce((all, part) => all.update(part), new Sha256()).hex();
const reference = (bytes) => createHash('sha256').update(bytes).digest('hex');
const text = (value) => new TextEncoder().encode(value);
const bytes = (length) => Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * 7) & 255);

test('the examples of the standard', () => {
  const examples = [
    ['', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
    ['abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
    ['abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq', '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1'],
    [
      'abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu',
      'cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1',
    ],
  ];
  for (const [message, expected] of examples) assert.equal(hash(text(message)), expected);
  const thousand = text('a'.repeat(1_000));
  assert.equal(hash(...Array(1_000).fill(thousand)), 'cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0');
});

test('every length around the borders of blocks', () => {
  for (let length = 0; length <= 260; length += 1) assert.equal(hash(bytes(length)), reference(bytes(length)), `${length} bytes`);
});

test('however the bytes are cut into parts', () => {
  const whole = bytes(1_000);
  const expected = reference(whole);
  for (const size of [1, 3, 55, 56, 63, 64, 65, 127, 128, 129, 999]) {
    const parts = [];
    for (let at = 0; at < whole.length; at += size) parts.push(whole.subarray(at, at + size));
    assert.equal(hash(...parts), expected, `parts of ${size} bytes`);
  }
  assert.equal(hash(whole.subarray(0, 0), whole, whole.subarray(0, 0)), expected, 'empty parts');
});

test('a part of a larger buffer', () => {
  const buffer = bytes(500);
  assert.equal(hash(buffer.subarray(77, 400)), reference(buffer.subarray(77, 400)));
});

test('several megabytes', (t) => {
  const part = bytes(512 * 1024);
  const begun = performance.now();
  const all = new Sha256();
  const expected = createHash('sha256');
  for (let n = 0; n < 16; n += 1) {
    all.update(part);
    expected.update(part);
  }
  assert.equal(all.hex(), expected.digest('hex'));
  t.diagnostic(`8 MiB in ${Math.round(performance.now() - begun)} ms`);
});
