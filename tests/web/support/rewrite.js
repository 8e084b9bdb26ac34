// Responses of the real server, changed on their way to the browser: rows as the test could not have the server
// write them, such as those of other days.
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import path from 'node:path';

const CLIENT = path.resolve(import.meta.dirname, '../../../src/web/client');
const load = createRequire(path.join(CLIENT, 'package.json'));
const { create, createFileRegistry, fromBinary, toBinary } = load('@bufbuild/protobuf');
const { FileDescriptorSetSchema, timestampFromMs } = load('@bufbuild/protobuf/wkt');

export { timestampFromMs };

const PAGES = /RoomService\/(GetRoomEvents(?:Around)?)$/;
/** As from a slow disk: rows are drawn before their pictures are there. */
const LATE_MS = 30;

let registry;

/** A type of the contract, by its name below `chatto`. */
function type(name) {
  registry ??= createFileRegistry(
    fromBinary(
      FileDescriptorSetSchema,
      execFileSync(path.join(CLIENT, 'node_modules/.bin/buf'), ['build', '../../contract/proto', '-o', '-#format=binpb'], {
        cwd: CLIENT,
        maxBuffer: 16 << 20,
      }),
    ),
  );
  return registry.getMessage(`chatto.${name}`);
}

/** A message of the contract. */
export const made = (name, fields) => create(type(name), fields);

const FRAME = 'realtime.v1.RealtimeServerFrame';

/** The server takes no client of this version any more. */
export async function refuseProtocol(guest) {
  const value = { code: 'unsupported_protocol', message: 'this server speaks another version', fatal: true };
  const frame = toBinary(type(FRAME), made(FRAME, { frame: { case: 'error', value } }));
  await guest.page.routeWebSocket(/\/api\/realtime$/, (socket) => {
    socket.onMessage(() => {
      socket.send(Buffer.from(frame));
      socket.close({ code: 1008 });
    });
  });
}

/** Takes a permission out of the viewer states, as if it had never been granted. */
export async function withoutPermission(guest, permission) {
  const strip = (state) => {
    if (state) state.permissions = state.permissions.filter((one) => one.permission !== permission);
  };
  await guest.page.routeWebSocket(/\/api\/realtime$/, (socket) => {
    socket.connectToServer().onMessage((data) => {
      const frame = fromBinary(type(FRAME), new Uint8Array(data));
      for (const { operation } of frame.frame.value?.operations ?? []) {
        if (operation.case === 'roomUpsert') strip(operation.value.room?.viewerState);
        if (operation.case === 'roomViewerStateReplace') strip(operation.value.viewerState);
      }
      socket.send(Buffer.from(toBinary(type(FRAME), frame)));
    });
  });
}

/** Lets `change` have each row, and its message if it is one, of the pages that the window asks for. */
export async function rewriteRows(guest, change) {
  await guest.page.route(PAGES, async (route) => {
    const [, method] = PAGES.exec(route.request().url());
    const response = await route.fetch();
    const schema = type(`api.v1.${method}Response`);
    const message = fromBinary(schema, await response.body());
    for (const event of message.page.events) change(event, event.event.value.message);
    await route.fulfill({
      status: response.status(),
      contentType: 'application/proto',
      body: Buffer.from(toBinary(schema, message)),
    });
  });
}

/** The chunk in a request of an upload. */
export const chunkOf = (request) => fromBinary(type('api.v1.UploadChunkRequest'), request.postDataBuffer());

/** An attachment whose file lies at a path of `/assets/files/`; without a size when it is not known. */
export const attachment = (fields) =>
  made('api.v1.MessageAttachment', { ...fields, assetUrl: { url: `/assets/files/${fields.id}?access=test` } });

/** Serves each file: a picture of the size in its id (`…-WIDTHxHEIGHT`), late; 404 for an id that begins with `lost`. */
export async function serveFiles(guest) {
  guest.expected.push(/status of 404 .*\/assets\/files\/lost/);
  await guest.page.route('**/assets/files/**', async (route) => {
    const [, id, width, height] = /files\/(.*?)-(\d+)x(\d+)\?/.exec(route.request().url());
    if (id.startsWith('lost')) return route.fulfill({ status: 404, body: '' });
    await new Promise((resolve) => setTimeout(resolve, LATE_MS));
    const body = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><rect width="100%" height="100%" fill="#7aa"/></svg>`;
    return route.fulfill({ status: 200, contentType: 'image/svg+xml', body }).catch(() => {});
  });
}
