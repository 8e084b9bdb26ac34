// Answers of the real server, changed on their way to the browser: rows as the test could not have the server
// write them, such as those of other days.
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import path from 'node:path';

const CLIENT = path.resolve(import.meta.dirname, '../../../src/web/client');
const load = createRequire(path.join(CLIENT, 'package.json'));
const { create, createFileRegistry, fromBinary, toBinary } = load('@bufbuild/protobuf');
const { FileDescriptorSetSchema } = load('@bufbuild/protobuf/wkt');

let registry;

/** The messages of the contract. */
function messages() {
  registry ??= createFileRegistry(
    fromBinary(
      FileDescriptorSetSchema,
      execFileSync(path.join(CLIENT, 'node_modules/.bin/buf'), ['build', '../../contract/proto', '-o', '-#format=binpb'], {
        cwd: CLIENT,
        maxBuffer: 16 << 20,
      }),
    ),
  );
  return registry;
}

/** The server takes no client of this version any more. */
export async function refuseProtocol(guest) {
  const schema = messages().getMessage('chatto.realtime.v1.RealtimeServerFrame');
  const value = { code: 'unsupported_protocol', message: 'this server speaks another version', fatal: true };
  const frame = toBinary(schema, create(schema, { frame: { case: 'error', value: create(schema.field.error.message, value) } }));
  await guest.page.routeWebSocket(/\/api\/realtime$/, (socket) => {
    socket.onMessage(() => {
      socket.send(Buffer.from(frame));
      socket.close({ code: 1008 });
    });
  });
}

/** Lets `change` have each row, and its message if it is one, of the pages that the window asks for. */
export async function rewriteRows(guest, change) {
  await guest.page.route(/RoomService\/GetRoomEvents(Around)?$/, async (route) => {
    const [, method] = /(GetRoomEvents(?:Around)?)$/.exec(route.request().url());
    const answer = await route.fetch();
    const schema = messages().getMessage(`chatto.api.v1.${method}Response`);
    const message = fromBinary(schema, await answer.body());
    for (const event of message.page.events) change(event, event.event.value.message);
    await route.fulfill({
      status: answer.status(),
      contentType: 'application/proto',
      body: Buffer.from(toBinary(schema, message)),
    });
  });
}

/** A time of the contract, from milliseconds. */
export const timestamp = (ms) => ({
  $typeName: 'google.protobuf.Timestamp',
  seconds: BigInt(Math.floor(ms / 1000)),
  nanos: (ms % 1000) * 1e6,
});

/** An attachment whose file lies at a path of `/assets/files/`; 0 for a size that is not known. */
export const attachment = ({ id, filename, contentType, width = 0, height = 0 }) => ({
  $typeName: 'chatto.api.v1.MessageAttachment',
  id,
  filename,
  contentType,
  width,
  height,
  assetUrl: { $typeName: 'chatto.api.v1.MessageAssetUrl', url: `/assets/files/${id}?access=test` },
});

/** Serves each file: a picture of the size in its id (`…-WIDTHxHEIGHT`), late; 404 for an id that begins with `lost`. */
export async function serveFiles(guest, lateMs = 30) {
  guest.expected.push(/status of 404 .*\/assets\/files\/lost/);
  await guest.page.route('**/assets/files/**', async (route) => {
    const [, id, width, height] = /files\/(.*?)-(\d+)x(\d+)\?/.exec(route.request().url());
    if (id.startsWith('lost')) return route.fulfill({ status: 404, body: '' });
    // As from a slow disk: rows are drawn before their pictures are there.
    await new Promise((resolve) => setTimeout(resolve, lateMs));
    const body = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><rect width="100%" height="100%" fill="#7aa"/></svg>`;
    return route.fulfill({ status: 200, contentType: 'image/svg+xml', body }).catch(() => {});
  });
}
