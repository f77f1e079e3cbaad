// Bundles src/ into dist/ with hashed names, and writes dist/manifest.json for the server.
import { build } from "esbuild";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const staging = path.join(here, "dist.new");
const dist = path.join(here, "dist");
const PAGES = ["main", "jobs", "job", "config", "log", "submit", "upload", "model", "compare", "group"];

/** The options shared by both builds. */
const common = {
  absWorkingDir: here,
  bundle: true,
  minify: true,
  sourcemap: false,
  legalComments: "eof",
  metafile: true,
  outdir: staging,
  target: ["es2022"],
  loader: { ".svg": "copy" },
  assetNames: "[name]-[hash]",
  entryNames: "[name]-[hash]",
  chunkNames: "chunk-[hash]",
  logLevel: "warning",
};

/** Return file name by entry name, and the chunks an entry imports, from esbuild's metafile. */
function describe(metafile) {
  const entries = {};
  const files = [];
  for (const [file, output] of Object.entries(metafile.outputs)) {
    files.push(path.basename(file));
    if (!output.entryPoint) continue;
    const name = path.basename(output.entryPoint).replace(/\.\w+$/, "");
    const kind = path.extname(file).slice(1);
    const imports = output.imports.filter((i) => i.kind === "import-statement").map((i) => path.basename(i.path));
    entries[`${name}.${kind}`] = { file: path.basename(file), imports };
  }
  return { entries, files };
}

await rm(staging, { recursive: true, force: true });
await mkdir(staging, { recursive: true });
const modules = await build({
  ...common,
  entryPoints: [...PAGES.map((page) => `src/${page}.ts`), "src/styles/style.css", "src/icon.svg"],
  format: "esm",
  splitting: true,
});
// Runs before the first paint, so that a remembered dark theme never flashes light: a classic, blocking script.
const classic = await build({ ...common, entryPoints: ["src/theme.ts"], format: "iife" });

const one = describe(modules.metafile);
const two = describe(classic.metafile);
const manifest = { entries: { ...one.entries, ...two.entries }, files: [...one.files, ...two.files].sort() };
await writeFile(path.join(staging, "manifest.json"), JSON.stringify(manifest, null, 1));
await rm(dist, { recursive: true, force: true });
await rename(staging, dist);
