import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const run = promisify(execFile);
const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const MOST_BYTES = 8_000;

async function temporary(t) {
  const folder = await mkdtemp(join(tmpdir(), "svops-client-"));
  t.after(() => rm(folder, { recursive: true }));
  return folder;
}

test("the package with its hooks is under 8 kB, and imports nothing but React", async () => {
  const stdin = { contents: 'export * from "./dist/index.js"; export * from "./dist/react.js";', resolveDir: PACKAGE };
  const options = { bundle: true, minify: true, format: "esm", target: "es2022", write: false, metafile: true };
  const { outputFiles, metafile } = await build({ ...options, stdin, external: ["react"] });

  const imported = Object.values(metafile.outputs).flatMap(({ imports }) => imports.map(({ path }) => path));
  const size = gzipSync(outputFiles[0].contents, { level: 9 }).length;

  assert.deepEqual(imported, ["react"]);
  assert.ok(size < MOST_BYTES, `${size} bytes`);
});

test("npm packs what is built, the README and the license, and nothing else", async () => {
  const { stdout } = await run("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: PACKAGE });
  const [{ files }] = Object.values(JSON.parse(stdout));
  const paths = files.map(({ path }) => path);

  assert.deepEqual(paths.filter((path) => !/^dist\/[\w-]+\.(js|d\.ts)$/.test(path)).sort(), [
    "LICENSE",
    "README.md",
    "package.json",
  ]);
  const { exports: entries, bin, dependencies } = JSON.parse(await readFile(join(PACKAGE, "package.json"), "utf8"));
  const named = [...Object.values(entries).flatMap((entry) => Object.values(entry)), ...Object.values(bin)];
  assert.deepEqual(
    named.filter((path) => !paths.includes(path.replace("./", ""))),
    [],
  );
  assert.equal(dependencies, undefined);
});

for (const [compiler, resolution, ...more] of [
  ["typescript", "nodenext", "--module", "nodenext", "--skipLibCheck"],
  ["typescript-7", "bundler", "--module", "esnext"],
]) {
  test(`a user's strict code compiles, and wrong calls do not (${compiler}, ${resolution})`, async (t) => {
    const folder = await temporary(t);
    await mkdir(join(folder, "node_modules/@svops"), { recursive: true });
    await symlink(PACKAGE, join(folder, "node_modules/@svops/client"));
    await cp(join(PACKAGE, "test/consumer.ts"), join(folder, "consumer.mts"));

    const flags = ["--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom,dom.iterable"];
    const command = [join(PACKAGE, "node_modules", compiler, "bin/tsc"), ...flags, "--moduleResolution", resolution];
    const { stdout } = await run(process.execPath, [...command, ...more, "consumer.mts"], { cwd: folder }).catch(
      (e) => e,
    );

    assert.equal(stdout, "");
  });
}
