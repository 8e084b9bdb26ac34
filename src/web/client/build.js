// Builds both parts into ../dist and puts a compressed copy next to each file, so that the server compresses nothing.
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { build } from 'vite';

const dist = path.resolve(import.meta.dirname, '../dist');
// Everything a browser loads before it shows a room, as gzip.
const FIRST_LOAD_MAX_BYTES = 75_000;

fs.rmSync(dist, { recursive: true, force: true });
for (const mode of ['client', 'setup']) {
  await build({ mode, logLevel: 'warn' });
}

const files = fs
  .readdirSync(dist, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => path.join(entry.parentPath, entry.name));
const packed = new Map();
for (const file of files) {
  if (!/\.(html|js|css|svg|json|webmanifest)$/.test(file)) continue;
  const bytes = fs.readFileSync(file);
  const gzip = zlib.gzipSync(bytes, { level: 9 });
  const brotli = zlib.brotliCompressSync(bytes, { params: { [zlib.constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } });
  packed.set(path.relative(dist, file), { gzip: gzip.length, brotli: brotli.length });
  if (gzip.length >= bytes.length) continue;
  fs.writeFileSync(`${file}.gz`, gzip);
  fs.writeFileSync(`${file}.br`, brotli);
}

// Files that a page names are loaded at once; dynamic imports are not counted.
const first = (page) => {
  const text = fs.readFileSync(path.join(dist, page), 'utf8');
  return [page, ...[...text.matchAll(/(?:src|href)="\/([^"]+)"/g)].map((match) => match[1])];
};
for (const page of ['200.html', 'setup/index.html']) {
  const sum = (coding) => first(page).reduce((total, name) => total + (packed.get(name)?.[coding] ?? 0), 0);
  console.log(`first load of ${page}: ${sum('gzip')} bytes as gzip, ${sum('brotli')} as brotli`);
  if (sum('gzip') > FIRST_LOAD_MAX_BYTES) {
    console.error(`error: that is more than ${FIRST_LOAD_MAX_BYTES}; load something on demand`);
    process.exit(1);
  }
}
