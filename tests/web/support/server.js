// The built `chatto` as a process of the test's own: a temporary directory, a free port, killed by its own id.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { until } from './wait.js';

const ROOT = path.resolve(import.meta.dirname, '../../..');
const TARGET = process.env.CARGO_BUILD_TARGET ?? `${os.arch() === 'arm64' ? 'aarch64' : 'x86_64'}-unknown-linux-musl`;
const BINARY = process.env.WEB_TEST_BINARY ?? path.join(ROOT, 'target', TARGET, 'debug/chatto');
const START_MS = 60_000;

const freePort = () =>
  new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.on('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });

export const PASSWORD = 'correct horse battery';

export class Server {
  #child;
  #env;

  static async start(env = {}) {
    if (!fs.existsSync(BINARY)) throw new Error(`${BINARY} is missing; build it with: cargo build --bin chatto`);
    const server = new Server();
    server.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'chatto-web-'));
    server.port = await freePort();
    server.url = `http://localhost:${server.port}`;
    server.#env = {
      ...process.env,
      CHATTO_WEBSERVER_PORT: String(server.port),
      CHATTO_WEBSERVER_BIND_ADDRESS: '127.0.0.1',
      CHATTO_NATS_EMBEDDED_DATA_DIR: path.join(server.dir, 'data'),
      CHATTO_LOG_FORMAT: 'text',
      ...env,
    };
    await server.run();
    return server;
  }

  async run() {
    const log = fs.openSync(this.#log, 'a');
    const child = spawn(BINARY, ['start'], { cwd: this.dir, env: this.#env, stdio: ['ignore', log, log] });
    fs.closeSync(log);
    this.#child = child;
    await until('the server is ready', START_MS, async () => {
      if (child.exitCode !== null) throw new Error(`chatto ended:\n${this.log()}`);
      const response = await fetch(`${this.url}/readyz`).catch(() => undefined);
      return response?.ok;
    });
  }

  get #log() {
    return path.join(this.dir, 'log');
  }

  log() {
    return fs.readFileSync(this.#log, 'utf8');
  }

  /** As a power cut does it. Its nats-server goes with it. */
  async kill() {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }

  async stop() {
    const child = this.#child;
    if (child && child.exitCode === null) {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await gone;
    }
    fs.rmSync(this.dir, { recursive: true, force: true });
  }

  command(...args) {
    return execFileSync(BINARY, args, { cwd: this.dir, env: this.#env, encoding: 'utf8' });
  }

  /** The address of the page for the first owner. */
  setupLink() {
    return /https?:\S+\/setup#\S+/.exec(this.command('setup-link'))[0].replace(/^https?:\/\/[^/]+/, this.url);
  }

  /** A call of the API; throws what is not a success. */
  async call(method, body, { token, key } = {}) {
    const path = method.startsWith('/') ? method : `/api/connect/chatto.api.v1.${method}`;
    const response = await fetch(this.url + path, {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        ...(token && { Authorization: `Bearer ${token}` }),
        ...(key && { 'Idempotency-Key': key }),
      },
      body: JSON.stringify(body),
    });
    const json = await response.json();
    if (!response.ok) throw new Error(`${method}: ${response.status} ${JSON.stringify(json)}`);
    return json;
  }

  /** The first owner, made without a browser. */
  async owner(login = 'ada', displayName = 'Ada Lovelace') {
    const token = this.setupLink().split('#')[1];
    return this.#account(await this.call('/auth/setup', { token, login, displayName, password: PASSWORD }));
  }

  /** Somebody else, brought in by the owner. */
  async person(owner, login, displayName = login) {
    const { url } = await this.call('/auth/join-links', {}, owner);
    const token = url.split('#')[1];
    return this.#account(await this.call('/auth/setup', { token, login, displayName, password: PASSWORD }));
  }

  #account({ user, token }) {
    return { ...user, token };
  }

  /** The id of a room by its name. */
  async roomId(account, name) {
    const { rooms } = await this.call('RoomDirectoryService/ListRooms', {}, account);
    return rooms.find(({ room }) => room.name === name).room.id;
  }

  async join(account, name) {
    const roomId = await this.roomId(account, name);
    await this.call('RoomService/JoinRoom', { roomId }, account);
    return roomId;
  }

  async post(account, roomId, body) {
    const { message } = await this.call('MessageService/CreateMessage', { roomId, body }, account);
    return message;
  }

  /** The texts of a room's newest messages, the oldest first. */
  async texts(account, roomId) {
    const { page } = await this.call('RoomService/GetRoomEvents', { roomId, limit: 100 }, account);
    return page.events.flatMap((event) => event.messagePosted?.message.body ?? []);
  }
}
