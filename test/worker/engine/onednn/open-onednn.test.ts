import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { symlinkSync, writeFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { openEngine } from "../../../../worker/engine/open-engine.ts";

const openEngineUrl = new URL("../../../../worker/engine/open-engine.js", import.meta.url).href;

/** Opens engines in a process of its own, with `folder` in front of the libraries' folders. */
async function openIn(folder: string, request: string): Promise<Record<string, unknown>> {
  const script = `
    const { openEngine } = await import(${JSON.stringify(openEngineUrl)});
    const options = { threads: 1, precision: "f32" };
    const result = await openEngine(${JSON.stringify(request)}, options).then(
      ({ engine, notes }) => ({ name: engine.name, notes }),
      ({ code, message }) => ({ code, message }),
    );
    console.log("\\n" + JSON.stringify(result));`;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--input-type=module", "--eval", script],
    { env: { ...process.env, LD_LIBRARY_PATH: folder } },
  );
  return JSON.parse(stdout.trim().split("\n").at(-1)!) as Record<string, unknown>;
}

describe("openOnednn", function () {
  this.timeout(20_000);
  let folder: string;

  beforeEach("makes a folder for libraries", async () => {
    folder = await mkdtemp(join(tmpdir(), "libraries-"));
  });
  afterEach("removes the folder", () => rm(folder, { recursive: true }));

  it("says in one line what to install when the library does not load", async () => {
    writeFileSync(join(folder, "libdnnl.so.2"), "no library");
    const { code, message } = await openIn(folder, "onednn");
    assert.equal(code, "ENGINE_UNAVAILABLE");
    assert.match(
      String(message),
      /^onednn is not available: libdnnl\.so\.2 does not load \([^\n]+\); install libdnnl2[^\n]+$/,
    );
  });

  it("says so when the library is another one", async () => {
    // The OpenMP run-time has to be there for oneDNN anyway.
    symlinkSync(await pathOf("libgomp.so.1"), join(folder, "libdnnl.so.2"));
    const { code, message } = await openIn(folder, "onednn");
    assert.equal(code, "ENGINE_UNAVAILABLE");
    assert.match(String(message), /libdnnl\.so\.2 is not oneDNN 2\.x \([^\n]+\); install libdnnl2/);
  });

  it("leaves the work to the next engine", async () => {
    writeFileSync(join(folder, "libdnnl.so.2"), "no library");
    const { name, notes } = await openIn(folder, "auto");
    assert.match(String(name), /^tfjs:/);
    const lines = (notes as string[]).filter((note) => /libdnnl2/.test(note));
    assert.equal(lines.length, 1, String(notes));
  });

  it("keeps its memory whole when signals arrive in the middle of a product", async () => {
    const script = `
      const { openEngine } = await import(${JSON.stringify(openEngineUrl)});
      const { engine } = await openEngine("onednn", { threads: 1, precision: "f32" });
      const x = engine.upload(new Float32Array(8 * 512).fill(1), [8, 512]);
      const weight = engine.upload(new Float32Array(512 * 512).fill(2), [512, 512]);
      for (let k = 0; k < 2000; k++) engine.scope(() => void engine.linear(x, weight));
      console.log("whole");`;
    const { stdout } = await promisify(execFile)(process.execPath, [
      "--cpu-prof",
      "--cpu-prof-interval=100",
      `--cpu-prof-dir=${folder}`,
      "--input-type=module",
      "--eval",
      script,
    ]);
    assert.match(stdout, /whole/);
  });

  it("says how it computes with maps in bf16", async () => {
    const hasAvx512 = /\bavx512bw\b/.test(await readFile("/proc/cpuinfo", "utf8"));
    const { engine } = await openEngine("onednn", { threads: 2, precision: "bf16" });
    assert.equal(engine.name, "onednn:bf16");
    assert.match(engine.device, /^CPU, oneDNN 2\.\d+\.\d+, AVX\S+( with bf16)?, 2 threads/);
    assert.equal(/maps in bf16, computing in f32$/.test(engine.device), !hasAvx512);
    engine.close();
  });
});

/** Where the dynamic linker finds a library. */
async function pathOf(name: string): Promise<string> {
  const { stdout } = await promisify(execFile)("/sbin/ldconfig", ["-p"]);
  const line = stdout.split("\n").find((entry) => entry.trim().startsWith(`${name} `));
  assert.ok(line, `${name} is installed`);
  return line.slice(line.indexOf("=>") + 3);
}
