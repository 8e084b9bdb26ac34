// Uploads without a browser and without a network: a server of a few lines stands for the calls.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { clientModule } from '../support/client.js';

const { ATTACHMENTS_MAX } = await clientModule('lib/limits.ts');
const { Uploads } = await clientModule('lib/state/uploads.svelte.ts');
const { sizeText } = await clientModule('lib/state/sizes.ts');

const KIB = 1024;
const CHUNK = 512 * KIB;

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const bytes = (length, seed = 1) => Uint8Array.from({ length }, (_, i) => (i * seed + (i >> 9)) & 255);

function file(name, content) {
  return new File([content], name, { type: 'application/x-test' });
}

class Refusal extends Error {
  constructor(kind, text = kind) {
    super(text);
    this.kind = kind;
  }
}

/** Keeps what arrives, and fails as a test wants it. */
class FakeServer {
  uploads = new Map();
  created = 0;
  log = [];
  signedOut = 0;
  /** Called before each call with its name; may throw or wait. */
  before = () => {};
  /** Called after a call has had its effect. */
  after = () => {};

  calls = {
    create: (roomId, { name, size }, hash) => this.#call('create', () => {
      this.created += 1;
      const id = `A${this.created}`;
      this.uploads.set(id, { id, roomId, name, size, hash, content: new Uint8Array(), assetId: '' });
      return id;
    }),
    chunk: (id, offset, content, hash) => this.#call('chunk', () => {
      const upload = this.#known(id);
      if (offset !== upload.content.length) throw new Refusal('permanent', 'wrong offset');
      assert.ok(content.length <= CHUNK && content.length > 0);
      assert.equal(hash, sha256(content));
      upload.content = new Uint8Array([...upload.content, ...content]);
      return id;
    }, offset, content.length),
    receipt: (id) => this.#call('receipt', () => this.#known(id).id),
    complete: (id) => this.#call('complete', () => {
      const upload = this.#known(id);
      if (sha256(upload.content) !== upload.hash) throw new Refusal('permanent', 'wrong hash');
      upload.assetId = id;
      return id;
    }),
    cancel: (id) => this.#call('cancel', () => {
      this.uploads.delete(id);
      return '';
    }),
    errorOf: (error) => (error instanceof Refusal ? { kind: error.kind, text: error.message } : assert.fail(error)),
    onSignedOut: () => (this.signedOut += 1),
  };

  async #call(name, effect, ...details) {
    this.log.push([name, ...details]);
    await this.before(name, details);
    const id = effect();
    await this.after(name, details);
    const upload = this.uploads.get(id);
    return upload && { id, offset: upload.content.length, chunkMaxBytes: CHUNK, assetId: upload.assetId };
  }

  #known(id) {
    const upload = this.uploads.get(id);
    if (!upload) throw new Refusal('inaccessible', 'upload not found');
    return upload;
  }

  count(name) {
    return this.log.filter(([one]) => one === name).length;
  }
}

async function until(what, look) {
  for (let n = 0; n < 5_000; n += 1) {
    if (look()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.fail(`in vain: ${what}`);
}

/** What a tab keeps over a reload. */
class FakeStore {
  text = '';
  files = new Map();
  load = () => this.text;
  save = (text) => (this.text = text);
  newKey = () => `K${(this.lastKey = (this.lastKey ?? 0) + 1)}`;
  keepFile = (key, content) => this.files.set(key, content);
  file = async (key) => this.files.get(key);
  removeFile = (key) => this.files.delete(key);
  removeOld = () => {};
}

function setup(maxBytes = 0) {
  const server = new FakeServer();
  const store = new FakeStore();
  const uploads = new Uploads(server.calls, () => maxBytes, store);
  uploads.open('U1');
  return { server, store, uploads };
}

/** The page is loaded anew. What the old one still does reaches nobody. */
function reload({ server, store, uploads }, user = 'U1') {
  const { text } = store;
  const files = new Map(store.files);
  uploads.pause();
  Object.assign(store, { text, files });
  const next = new Uploads(server.calls, () => 0, store);
  next.open(user);
  return next;
}

const phases = (uploads) => uploads.all.map((one) => one.phase);

test('a file is hashed, sent in chunks and completed', async () => {
  const { server, uploads } = setup();
  const content = bytes(CHUNK * 2 + 5);
  uploads.add('R1', [file('a.bin', content)]);
  const [upload] = uploads.all;
  await until('it is done', () => upload.phase === 'done');
  assert.deepEqual(server.log, [['create'], ['chunk', 0, CHUNK], ['chunk', CHUNK, CHUNK], ['chunk', 2 * CHUNK, 5], ['complete']]);
  assert.deepEqual([upload.sentBytes, upload.assetId, upload.error], [content.length, 'A1', '']);
  const { hash, name, roomId } = server.uploads.get('A1');
  assert.deepEqual([hash, name, roomId], [sha256(content), 'a.bin', 'R1']);
});

test('an empty file needs no chunk', async () => {
  const { server, uploads } = setup();
  uploads.add('R1', [file('empty.txt', '')]);
  await until('it is done', () => uploads.all[0].phase === 'done');
  assert.deepEqual(server.log, [['create'], ['complete']]);
});

test('a file without a name gets one', async () => {
  const { server, uploads } = setup();
  uploads.add('R1', [file('', 'x')]);
  await until('it is done', () => uploads.all[0].phase === 'done');
  assert.deepEqual([uploads.all[0].name, server.uploads.get('A1').name], ['file', 'file']);
});

test('two at a time, the others wait; a failed one makes room', async () => {
  const { server, uploads } = setup();
  let release;
  const gate = new Promise((resolve) => (release = resolve));
  server.before = (name) => name === 'chunk' && gate;
  uploads.add('R1', ['a', 'b', 'c', 'd'].map((name) => file(name, bytes(10))));
  await until('two are sending', () => phases(uploads).filter((one) => one === 'sending').length === 2);
  assert.deepEqual(phases(uploads), ['sending', 'sending', 'queued', 'queued']);
  uploads.cancel(uploads.all[0]);
  await until('the third has begun', () => uploads.all[1].phase === 'sending');
  release();
  await until('all are done', () => phases(uploads).every((one) => one === 'done'));
  assert.equal(uploads.all.length, 3);
});

test('after a lost response it asks what has arrived and continues there', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { server, uploads } = setup();
  const content = bytes(CHUNK * 3, 7);
  // The second chunk arrives, its response does not.
  server.after = (name, [offset]) => {
    if (name !== 'chunk' || offset !== CHUNK) return;
    server.after = () => {};
    throw new Refusal('transient', 'The server cannot be reached.');
  };
  uploads.add('R1', [file('a', content)]);
  const [upload] = uploads.all;
  await until('it waits', () => upload.phase === 'waiting');
  assert.deepEqual([upload.error, upload.sentBytes], ['The server cannot be reached.', CHUNK]);
  t.mock.timers.tick(500);
  await until('it is done', () => upload.phase === 'done');
  assert.equal(server.count('receipt'), 1);
  assert.equal(server.log.filter(([name, offset]) => name === 'chunk' && offset === CHUNK).length, 1, 'that chunk was not sent twice');
  assert.deepEqual([...server.uploads.get('A1').content], [...content]);
});

test('a slow line gets smaller chunks, a good one larger ones again', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { server, uploads } = setup();
  server.before = (name, [, length]) => {
    if (name === 'chunk' && length > 128 * KIB) throw new Refusal('transient');
  };
  uploads.add('R1', [file('a', bytes(CHUNK * 2))]);
  const [upload] = uploads.all;
  for (let n = 0; n < 2; n += 1) {
    await until('it waits', () => upload.phase === 'waiting');
    t.mock.timers.tick(15_000);
    await until('it has tried again', () => upload.phase !== 'waiting');
  }
  await until('a part has arrived', () => upload.sentBytes >= 128 * KIB);
  await until('it tried a larger chunk', () => upload.phase === 'waiting');
  server.before = () => {};
  t.mock.timers.tick(15_000);
  await until('it is done', () => upload.phase === 'done');
  const sizes = server.log.filter(([name]) => name === 'chunk').map(([, , length]) => length / KIB);
  assert.deepEqual(sizes.slice(0, 4), [512, 256, 128, 256]);
  assert.equal(Math.max(...sizes.slice(4)), 512);
});

test('a connection that is back continues it at once', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { server, uploads } = setup();
  let isCut = true;
  server.before = () => {
    if (isCut) throw new Refusal('transient');
  };
  uploads.add('R1', [file('a', bytes(10))]);
  const [upload] = uploads.all;
  for (const ms of [500, 1_000, 2_000, 4_000]) {
    await until('it waits', () => upload.phase === 'waiting');
    t.mock.timers.tick(ms);
    await until('it has tried again', () => upload.phase !== 'waiting');
  }
  await until('it waits', () => upload.phase === 'waiting');
  isCut = false;
  uploads.open('U1');
  await until('it is done', () => upload.phase === 'done');
  assert.equal(server.count('create'), 6);
});

test('after the end of the session it waits for the next log-in of the same user', async () => {
  const { server, uploads } = setup();
  server.before = (name, [offset]) => {
    if (name === 'chunk' && offset === CHUNK) throw new Refusal('signed-out');
  };
  uploads.add('R1', [file('a', bytes(CHUNK * 2)), file('b', bytes(1)), file('c', bytes(1)), file('d', bytes(1))]);
  await until('it stops', () => uploads.all[0].phase === 'signed-out');
  assert.equal(server.signedOut, 1);
  uploads.pause();
  assert.deepEqual(phases(uploads).filter((one) => one !== 'done' && one !== 'signed-out'), []);
  const calls = server.log.length;
  server.before = () => {};
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(server.log.length, calls, 'nothing is sent without a session');
  uploads.open('U1');
  await until('all are done', () => phases(uploads).every((one) => one === 'done'));
  assert.equal(server.count('receipt') >= 1, true);
  assert.equal(server.log.filter(([name, offset]) => name === 'chunk' && offset === 0).length, 4, 'what had arrived is not sent again');
  assert.equal(server.signedOut, 1);
});

test('another user finds nothing', async () => {
  const { server, uploads } = setup();
  uploads.add('R1', [file('a', bytes(CHUNK))]);
  uploads.pause();
  uploads.open('U2');
  assert.deepEqual(uploads.all, []);
  const calls = server.log.length;
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(server.log.length <= calls + 1);
  assert.equal(server.count('chunk'), 0);
});

test('a session that ends while a call is under way: its result does not count', async () => {
  const { server, uploads } = setup();
  let release;
  server.after = (name) => name === 'chunk' && new Promise((resolve) => (release ??= resolve));
  uploads.add('R1', [file('a', bytes(CHUNK + 1))]);
  const [upload] = uploads.all;
  await until('the chunk is under way', () => release !== undefined);
  uploads.pause();
  server.after = () => {};
  uploads.open('U1');
  await until('it is done', () => upload.phase === 'done');
  release();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([upload.phase, upload.sentBytes], ['done', CHUNK + 1]);
  assert.equal(server.count('complete'), 1);
});

test('a cancelled upload is cancelled at the server, whatever it was doing', async () => {
  const { server, uploads } = setup();
  const stages = { create: 'before', chunk: 'before', complete: 'before' };
  for (const name of Object.keys(stages)) {
    let reached;
    let release;
    server.before = (one) => {
      if (one !== name) return undefined;
      reached = true;
      return new Promise((resolve) => (release = resolve));
    };
    uploads.add('R1', [file(name, bytes(10))]);
    const [upload] = uploads.all;
    await until(`${name} is under way`, () => reached);
    const cancelled = server.count('cancel');
    uploads.cancel(upload);
    assert.deepEqual(uploads.all, []);
    server.before = () => {};
    release();
    await until('the server knows', () => server.count('cancel') === cancelled + 1);
    assert.equal(upload.phase, 'cancelled');
  }
});

test('a file that was uploaded is taken off without a call', async () => {
  const { server, uploads } = setup();
  uploads.add('R1', [file('a', bytes(10))]);
  await until('it is done', () => uploads.all[0].phase === 'done');
  uploads.cancel(uploads.all[0]);
  assert.equal(server.count('cancel'), 0);
  assert.deepEqual(uploads.all, []);
});

test('an upload that the server has forgotten begins anew', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { server, uploads } = setup();
  server.before = (name, [offset]) => {
    if (name !== 'chunk' || offset !== CHUNK) return;
    server.before = () => {};
    server.uploads.clear();
  };
  uploads.add('R1', [file('a', bytes(CHUNK * 2))]);
  const [upload] = uploads.all;
  await until('it waits', () => upload.phase === 'waiting');
  assert.equal(upload.sentBytes, 0);
  t.mock.timers.tick(500);
  await until('it is done', () => upload.phase === 'done');
  assert.equal(server.count('create'), 2);
});

test('what the server refuses fails with its text, and can be tried again', async () => {
  const { server, uploads } = setup();
  server.before = () => {
    throw new Refusal('permanent', 'Room is archived.');
  };
  uploads.add('R1', [file('a', bytes(10))]);
  const [upload] = uploads.all;
  await until('it failed', () => upload.phase === 'failed');
  assert.equal(upload.error, 'Room is archived.');
  assert.equal(server.log.length, 1, 'nothing is repeated by itself');
  server.before = () => {};
  upload.retry();
  await until('it is done', () => upload.phase === 'done');
});

test('an error that stays is reported after three attempts', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { server, uploads } = setup();
  server.before = (name) => {
    if (name === 'complete') throw new Refusal('permanent', 'The bytes do not match.');
  };
  uploads.add('R1', [file('a', bytes(10))]);
  const [upload] = uploads.all;
  for (let n = 0; n < 2; n += 1) {
    await until('it waits', () => upload.phase === 'waiting');
    t.mock.timers.tick(15_000);
    await until('it has tried again', () => upload.phase !== 'waiting');
  }
  await until('it failed', () => upload.phase === 'failed');
  assert.deepEqual([upload.error, upload.sentBytes, server.count('complete'), server.count('cancel')], ['The bytes do not match.', 0, 3, 1]);
  server.before = () => {};
  upload.retry();
  await until('it is done', () => upload.phase === 'done');
  assert.equal(server.count('create'), 2);
});

test('a file that cannot be read fails, and is read anew when it is tried again', async () => {
  const { server, uploads } = setup();
  const source = file('a', bytes(10));
  let isReadable = false;
  const moody = { name: 'a', type: '', size: 10, slice: (from, to) => (isReadable ? source.slice(from, to) : { arrayBuffer: () => Promise.reject(new Error('NotReadableError')) }) };
  const cut = { name: 'b', type: '', size: 20, slice: (from, to) => source.slice(from, to) };
  uploads.add('R1', [moody, cut]);
  await until('both failed', () => phases(uploads).every((one) => one === 'failed'));
  assert.match(uploads.all[0].error, /cannot be read/);
  assert.match(uploads.all[1].error, /cannot be read/);
  assert.equal(server.log.length, 0);
  isReadable = true;
  uploads.all[0].retry();
  await until('it is done', () => uploads.all[0].phase === 'done');
});

test('too large and too many are refused before anything is sent', async () => {
  const { server, uploads } = setup(100);
  uploads.add('R1', [file('large.mp4', bytes(101)), file('fits', bytes(100))]);
  assert.deepEqual(uploads.all.map(({ name }) => name), ['fits']);
  assert.deepEqual(uploads.refusal, { roomId: 'R1', texts: ['large.mp4 is too large. A file may have up to 100 bytes.'] });
  uploads.add('R1', Array.from({ length: ATTACHMENTS_MAX }, (_, n) => file(`${n}`, bytes(1))));
  assert.equal(uploads.all.length, ATTACHMENTS_MAX);
  assert.deepEqual(uploads.refusal.texts, ['9 was not attached: a message may have up to 10 files.']);
  uploads.add('R2', [file('elsewhere', bytes(1))]);
  assert.equal(uploads.inRoom('R2').length, 1);
  assert.deepEqual(uploads.refusal.texts, []);
  await until('all are done', () => phases(uploads).every((one) => one === 'done'));
  assert.ok(![...server.uploads.values()].some(({ name }) => name === 'large.mp4'));
  uploads.remove(uploads.inRoom('R1'));
  assert.deepEqual(uploads.all.map(({ name }) => name), ['elsewhere']);
});

test('after a reload it continues with the byte that the server has not confirmed, and what was uploaded is still attached', async () => {
  const before = setup();
  const { server, store } = before;
  const film = bytes(CHUNK * 3);
  before.uploads.add('R1', [file('notes', bytes(3))]);
  await until('the first is done', () => before.uploads.all[0].phase === 'done');
  assert.deepEqual([...store.files], [], 'the server has its bytes');
  before.uploads.add('R2', [file('film', film)]);
  server.before = (name, [offset]) => name === 'chunk' && offset === CHUNK && new Promise(() => {});
  await until('one chunk has arrived', () => server.count('chunk') === 3);
  const uploads = reload(before);
  server.before = () => {};
  await until('all is done', () => phases(uploads).every((one) => one === 'done'));
  assert.deepEqual(uploads.all.map(({ roomId, name, type, size, sentBytes, assetId }) => [roomId, name, type, size, sentBytes, assetId]), [
    ['R1', 'notes', 'application/x-test', 3, 3, 'A1'],
    ['R2', 'film', 'application/x-test', film.length, film.length, 'A2'],
  ]);
  assert.deepEqual(server.log.filter(([name]) => name !== 'chunk'), [['create'], ['complete'], ['create'], ['receipt'], ['complete']]);
  assert.equal(server.log.filter(([name, offset]) => name === 'chunk' && offset === 0).length, 2);
  assert.equal(sha256(server.uploads.get('A2').content), sha256(film));
  uploads.remove(uploads.all);
  assert.deepEqual([store.text, store.files.size], ['', 0]);
});

test('after a reload another user finds nothing, and nothing is left', async () => {
  const before = setup();
  before.server.before = () => new Promise(() => {});
  before.uploads.add('R1', [file('a', bytes(CHUNK))]);
  assert.equal(before.store.files.size, 1);
  const uploads = reload(before, 'U2');
  assert.deepEqual([uploads.all, before.store.text, before.store.files.size], [[], '', 0]);
});

test('a page finds something else than uploads in its storage', () => {
  const { uploads, store } = setup();
  store.text = '{';
  assert.deepEqual(reload({ uploads, store, server: new FakeServer() }).all, []);
});

test('a file that could not be kept fails after a reload', async () => {
  const before = setup();
  before.server.before = () => new Promise(() => {});
  before.uploads.add('R1', [file('a', bytes(CHUNK))]);
  before.store.files.clear();
  const uploads = reload(before);
  await until('it failed', () => phases(uploads)[0] === 'failed');
  assert.match(uploads.all[0].error, /^This cannot be read\./);
});

test('sizes as people read them', () => {
  const texts = [0, 1, 2, 1_023, 1_024, 1_536, 10_240, 1_047_552, 1_048_000, 1_048_576, 26_214_400, 4_831_838_208].map(sizeText);
  assert.deepEqual(texts, ['0 bytes', '1 byte', '2 bytes', '1,023 bytes', '1 KB', '1.5 KB', '10 KB', '1,023 KB', '1,023 KB', '1 MB', '25 MB', '4.5 GB']);
});
