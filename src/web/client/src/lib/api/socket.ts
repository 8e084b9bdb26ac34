// One WebSocket of the realtime protocol: encodes and decodes frames and says hello. All decisions are made in
// `state/connection`.
import { create, fromBinary, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { RealtimeClientFrameSchema } from './gen/chatto/realtime/v1/client_frames_pb';
import { RealtimeServerFrameSchema, type RealtimeServerFrame } from './gen/chatto/realtime/v1/server_frames_pb';

export type ServerFrame = RealtimeServerFrame['frame'];
type FrameInit = NonNullable<MessageInitShape<typeof RealtimeClientFrameSchema>['frame']>;
/** One case of the oneof, with the fields of its message that are set. */
type ClientFrame = Exclude<FrameInit, { case?: undefined }>;

const PROTOCOL_VERSION = 2;
/** Close code for a frame that cannot be decoded (contract 8.8). */
const BAD_DATA = 1003;

export interface Handlers {
  frame(frame: ServerFrame): void;
  closed(): void;
}

export class Socket {
  #socket: WebSocket;
  #isClosed = false;
  #handlers: Handlers;

  constructor(handlers: Handlers) {
    this.#handlers = handlers;
    const address = new URL('/api/realtime', location.href);
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = (this.#socket = new WebSocket(address));
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.send({ case: 'hello', value: { protocolVersion: PROTOCOL_VERSION } });
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = () => this.#closed();
  }

  #receive(data: unknown) {
    if (this.#isClosed) return;
    let frame: ServerFrame;
    try {
      if (!(data instanceof ArrayBuffer)) throw new Error('a text frame');
      ({ frame } = fromBinary(RealtimeServerFrameSchema, new Uint8Array(data)));
    } catch {
      this.close(BAD_DATA);
      return;
    }
    this.#handlers.frame(frame);
  }

  #closed() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#handlers.closed();
  }

  send(frame: ClientFrame) {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const message = create(RealtimeClientFrameSchema, { frame });
    this.#socket.send(toBinary(RealtimeClientFrameSchema, message));
  }

  /** Calls `closed` at once: on a dead network the closing handshake would take long. */
  close(code = 1000) {
    this.#socket.close(code);
    this.#closed();
  }

  /** Closes without calling `closed`. */
  drop() {
    this.#isClosed = true;
    this.#socket.close(1000);
  }
}
