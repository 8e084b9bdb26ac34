// Connect's unary protocol over fetch, binary. The contract has no other calls, so nothing for streams and JSON
// messages is here: with it `@connectrpc/connect-web` would weigh 8 KB more in the first load.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError, type Transport } from '@connectrpc/connect';

/** After this long a call counts as unanswered. */
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

/** What a failed response says; one without our JSON came from something between us and the server. */
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
      // A broken connection: whether the server did it, nobody knows.
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
