// Two builds: the client, and the pages below /setup/, which remain the server's own when `webserver.client_dir`
// serves another client. They share no file, so each works without the other.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

const parts = {
  client: { input: ['200.html'], assets: '_app/immutable' },
  setup: { input: ['setup/index.html', 'setup/lost.html'], assets: 'setup/immutable' },
};

/** Whether a page loads a module at once: a path of static imports leads there from an entry. */
function isFirst(id, getModuleInfo, seen = new Set()) {
  if (seen.has(id)) return false;
  seen.add(id);
  const info = getModuleInfo(id);
  return info !== null && (info.isEntry || info.importers.some((one) => isFirst(one, getModuleInfo, seen)));
}

export default defineConfig(({ mode }) => {
  const part = parts[mode] ?? parts.client;
  const name = `${part.assets}/[name].[hash]`;
  return {
    publicDir: false,
    plugins: [svelte()],
    build: {
      outDir: '../dist',
      emptyOutDir: false,
      assetsInlineLimit: 0,
      cssCodeSplit: true,
      modulePreload: { polyfill: false },
      reportCompressedSize: false,
      // Licence texts of everything that is bundled.
      license: { fileName: `${part.assets.split('/')[0]}/licenses.txt` },
      target: ['chrome109', 'firefox115', 'safari16.4'],
      rolldownOptions: {
        input: part.input,
        output: {
          entryFileNames: `${name}.js`,
          chunkFileNames: `${name}.js`,
          assetFileNames: `${name}[extname]`,
          // Several files would compress worse.
          codeSplitting: {
            groups: [{ debugName: 'first', name: (id, chunks) => (isFirst(id, (one) => chunks.getModuleInfo(one)) ? 'first' : null) }],
          },
        },
      },
    },
    server: { proxy: { '/api': { target: 'http://localhost:4000', ws: true }, '/auth': 'http://localhost:4000' } },
  };
});
