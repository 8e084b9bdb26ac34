// Connect's unary protocol over fetch, with binary messages. The contract has no other calls. `@connectrpc/connect-web`
// also supports streams and JSON, and would add 8 KB to the first load.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError, type Transport } from '@connectrpc/connect';

/** A call without a response by then has failed. */
const CALL_TIMEOUT_MS = 20_000;

const CODES: Record<string, Code> = {
  canceled: Code.Canceled,
  invalid_argument: Code.InvalidArgument,
  deadline_exceeded: Code.DeadlineExceeded,
  not_found: Code.NotFound,
  already_exists: Code.AlreadyExists,
  permission_denied: Code.PermissionDenied,
  resource_exhausted: Code.ResourceExhausted,
  failed_precondition: Code.FailedPrecondition,
  aborted: Code.Aborted,
  unimplemented: Code.Unimplemented,
  internal: Code.Internal,
  unavailable: Code.Unavailable,
  unauthenticated: Code.Unauthenticated,
};

/** The error in a response. One without our JSON comes from a proxy in between. */
async function errorOf(response: Response): Promise<ConnectError> {
  const body = (await response.json().catch(() => ({}))) as { code?: string; message?: string };
  const code = CODES[body.code ?? ''] ?? (response.status >= 500 ? Code.Unavailable : Code.Unknown);
  return new ConnectError(body.message ?? `status ${response.status}`, code);
}

export const transport: Transport = {
  async unary(method, _signal, timeoutMs, header, input) {
    const timeout = AbortSignal.timeout(timeoutMs ?? CALL_TIMEOUT_MS);
    const headers = new Headers(header);
    headers.set('Content-Type', 'application/proto');
    headers.set('Connect-Protocol-Version', '1');
    let response: Response;
    let bytes: ArrayBuffer;
    try {
      response = await fetch(`/api/connect/${method.parent.typeName}/${method.name}`, {
        method: 'POST',
        headers,
        body: toBinary(method.input, create(method.input, input)) as Uint8Array<ArrayBuffer>,
        credentials: 'same-origin',
        cache: 'no-store',
        signal: timeout,
      });
      if (!response.ok) throw await errorOf(response);
      bytes = await response.arrayBuffer();
    } catch (error) {
      if (error instanceof ConnectError) throw error;
      // The connection broke. The server may or may not have executed the call.
      throw new ConnectError('no response', timeout.aborted ? Code.DeadlineExceeded : Code.Unavailable);
    }
    return {
      stream: false,
      service: method.parent,
      method,
      header: response.headers,
      trailer: new Headers(),
      message: fromBinary(method.output, new Uint8Array(bytes)),
    };
  },
  stream() {
    throw new ConnectError('there are no streams', Code.Unimplemented);
  },
};
