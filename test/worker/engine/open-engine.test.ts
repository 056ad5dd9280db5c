import assert from "node:assert/strict";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { FleetError } from "../../../proto/errors.ts";
import { openEngine } from "../../../worker/engine/open-engine.ts";
import { NAMES, refusals } from "../../support/engines.ts";

describe("openEngine", function () {
  this.timeout(20_000);

  it("refuses an unknown engine and lists the known ones", async () => {
    await assert.rejects(
      openEngine("onnx", { threads: 1, precision: "f32" }),
      (thrown: unknown) => {
        assert.ok(thrown instanceof FleetError);
        assert.equal(thrown.code, "USAGE");
        assert.match(thrown.message, /auto, tfjs, tfjs:node-gpu, onednn, tfjs:node, tfjs:wasm/);
        return true;
      },
    );
  });

  for (const [name, error] of refusals)
    it(`says in one line why ${name} does not load here`, () => {
      assert.notEqual(name, "tfjs:wasm", error.message);
      assert.equal(error.code, "ENGINE_UNAVAILABLE");
      assert.match(error.message, new RegExp(`^${name} is not available: [^\n]+$`));
    });

  for (const request of ["auto", "tfjs"])
    it(`takes the best engine that loads for ${request}, and says why no better one`, async () => {
      const { engine, notes } = await openEngine(request, { threads: 1, precision: "f32" });
      const tried = NAMES.filter((name) => request === "auto" || name.startsWith(request));
      const better = tried
        .slice(0, tried.indexOf(engine.name))
        .map((name) => refusals.get(name)?.message);
      assert.deepEqual(notes, [`computing with ${engine.name} (${engine.device})`, ...better]);
      engine.close();
    });

  for (const name of NAMES.filter((candidate) => candidate !== "onednn"))
    it(`says that ${name} has no bf16`, async () => {
      await assert.rejects(
        openEngine(name, { threads: 1, precision: "bf16" }),
        /^FleetError: \S+ is not available: tfjs computes in f32 only, not in bf16; the onednn/,
      );
    });

  it("says that WebAssembly uses one thread", async () => {
    const { engine, notes } = await openEngine("tfjs:wasm", { threads: 4, precision: "f32" });
    assert.equal(engine.device, "CPU, 1 thread");
    assert.match(notes[1] ?? "", /1 of 4 threads/);
    engine.close();
  });

  it("opens an engine in a worker thread", async () => {
    const module = new URL("../../../worker/engine/open-engine.js", import.meta.url);
    const thread = new Worker(
      `import(${JSON.stringify(module.href)}).then(async ({ openEngine }) => {
        const { engine } = await openEngine("tfjs:wasm", { threads: 1, precision: "f32" });
        const a = engine.upload(Float32Array.of(1, 2), [2]);
        require("node:worker_threads").parentPort.postMessage(engine.download(engine.add(a, a)));
      });`,
      { eval: true },
    );
    const [sum] = await once(thread, "message");
    assert.deepEqual(sum, Float32Array.of(2, 4));
    await thread.terminate();
  });
});
