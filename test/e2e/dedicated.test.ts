import assert from "node:assert/strict";
import { readScalars, tinyRecipe, untilExperiment, useCluster } from "../support/cluster.ts";
import { startNode, WORKER_MAIN } from "../support/processes.ts";

describe("two workers for pretrain and two for linear", function () {
  this.timeout(120_000);
  const suite = useCluster({ images: { train: 16, val: 4 }, workers: 0 });

  it("take their stage, and end with exit status 0 when it is over", async () => {
    const { cluster } = suite;
    for (const stage of ["pretrain", "linear"]) {
      await cluster.addWorkers(2, "--stage", stage, "--leave-when-over");
    }
    const { code, stdout } = await cluster.cli("workers");
    assert.equal(code, 0);
    assert.match(stdout, /ONLY FOR\n(.* pretrain\n){2}(.* linear\n){2}/);

    const base = tinyRecipe(suite.data, {});
    const id = await suite.submit({
      ...base,
      pretrain: { ...base.pretrain, workers: 2 },
      linear: { ...base.linear, workers: 2 },
    });
    await untilExperiment(cluster, id, ({ state }) => state === "succeeded", 90_000);
    const exits = await Promise.all(cluster.workers.map((worker) => worker.exited()));
    assert.deepEqual(
      exits.map((exit) => exit.code),
      [0, 0, 0, 0],
    );
    assert.match(exits[0]?.stderr ?? "", new RegExp(`pretrain of ${id} is over`));
    assert.equal(readScalars(cluster, id, "linear").length, 2);
  });

  it("are refused what makes no sense", async () => {
    const { cluster } = suite;
    const start = (...flags: string[]) =>
      startNode([WORKER_MAIN, "start", "--coordinator", cluster.address, ...flags]).exited();
    const unknown = await start("--engine", "tfjs:wasm", "--experiment", "nobody");
    assert.equal(unknown.code, 5);
    assert.match(unknown.stderr, /^error: there is no experiment nobody$/m);
    const endless = await start("--leave-when-over");
    assert.equal(endless.code, 2);
    assert.match(endless.stderr, /--leave-when-over: .* give --experiment or --stage/);
    const mistyped = await start("--stage", "pretraining");
    assert.equal(mistyped.code, 2);
    assert.match(mistyped.stderr, /--stage: /);
  });
});
