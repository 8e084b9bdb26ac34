// Modules of the web client in Node, for unit tests: vite strips their types and compiles their runes.
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const CLIENT = path.resolve(import.meta.dirname, '../../../src/web/client');
const load = createRequire(path.join(CLIENT, 'package.json'));
const tool = (name) => import(pathToFileURL(load.resolve(name)).href);

/** A module by its path below the client's `src`. */
export async function clientModule(file) {
  const [{ runnerImport }, { svelte }] = await Promise.all([tool('vite'), tool('@sveltejs/vite-plugin-svelte')]);
  const { module } = await runnerImport(path.join(CLIENT, 'src', file), {
    configFile: false,
    root: CLIENT,
    logLevel: 'error',
    plugins: [svelte()],
  });
  return module;
}
