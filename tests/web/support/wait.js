import assert from 'node:assert/strict';

/** How long a test waits for what should come at once. */
export const PATIENCE_MS = 20_000;

// Waiting for a state, with a deadline; nothing sleeps and hopes.
export async function until(what, ms, check) {
  const end = Date.now() + ms;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** Times depend on the machine: they count where a limit in milliseconds is asked for (`make bench-client`). */
export function withinTarget(ms, variable) {
  const limit = Number(process.env[variable] ?? 0);
  if (limit > 0) assert.ok(ms <= limit, `${ms} ms, ${variable}=${limit}`);
}
