// Connect's unary protocol over fetch, with binary messages. The contract has no other calls. `@connectrpc/connect` also
// supports streams and JSON, and would add some KB to the first load.
import {
  create, fromBinary, toBinary, type DescMethodUnary, type DescService, type MessageInitShape, type MessageShape,
} from '@bufbuild/protobuf';

/** A call without a response by then has failed. */
const CALL_TIMEOUT_MS = 20_000;

export interface CallOptions {
  headers?: Record<string, string>;
  timeoutMs?: number;
}

/** A service: a function for each of its methods. */
type Client<Service extends DescService> = {
  [Name in keyof Service['method']]: Service['method'][Name] extends DescMethodUnary<infer Input, infer Output>
    ? (request: MessageInitShape<Input>, options?: CallOptions) => Promise<MessageShape<Output>>
    : never;
};

/** A call that failed, with Connect's code. The message is the server's, if there was a response. */
export class FailedCall extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** The codes of the contract with a status from 500 on. Any other comes from a proxy in between. */
const SERVER_CODES = ['internal', 'unimplemented', 'deadline_exceeded', 'unavailable'];

async function errorOf(response: Response): Promise<FailedCall> {
  const { status } = response;
  const { code = 'unknown', message } = (await response.json().catch(() => ({}))) as { code?: string; message?: string };
  return new FailedCall(status >= 500 && !SERVER_CODES.includes(code) ? 'unavailable' : code, message ?? `status ${status}`);
}

async function call(method: DescMethodUnary, input: MessageInitShape<DescMethodUnary['input']>, options: CallOptions = {}) {
  const timeout = AbortSignal.timeout(options.timeoutMs ?? CALL_TIMEOUT_MS);
  try {
    const response = await fetch(`/api/connect/${method.parent.typeName}/${method.name}`, {
      method: 'POST',
      headers: { ...options.headers, 'Content-Type': 'application/proto', 'Connect-Protocol-Version': '1' },
      body: toBinary(method.input, create(method.input, input)) as Uint8Array<ArrayBuffer>,
      credentials: 'same-origin',
      cache: 'no-store',
      signal: timeout,
    });
    if (!response.ok) throw await errorOf(response);
    return fromBinary(method.output, new Uint8Array(await response.arrayBuffer()));
  } catch (error) {
    if (error instanceof FailedCall) throw error;
    // The connection broke. The server may or may not have executed the call.
    throw new FailedCall(timeout.aborted ? 'deadline_exceeded' : 'unavailable', 'no response');
  }
}

export function clientOf<Service extends DescService>(service: Service): Client<Service> {
  const functions = service.methods.map((method) => [
    method.localName,
    (request: Record<string, unknown>, options?: CallOptions) => call(method as DescMethodUnary, request, options),
  ]);
  return Object.fromEntries(functions) as Client<Service>;
}
