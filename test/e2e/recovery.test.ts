import assert from "node:assert/strict";
import { ERROR_SPECS } from "../../proto/errors.ts";
import {
  processOfRank,
  readScalars,
  readWeights,
  type ShownExperiment,
  tinyRecipe,
  untilExperiment,
  useCluster,
} from "../support/cluster.ts";
import type { TestProcess } from "../support/processes.ts";

const STEPS = 60;

describe("a gang of which a worker is lost", function () {
  this.timeout(300_000);
  const suite = useCluster({ images: { train: STEPS, val: 2 }, workers: 3 });
  let undisturbed = "";

  const submit = (epochs = 2, elastic = {}) =>
    suite.submit(
      tinyRecipe(suite.data, {
        stages: ["pretrain"],
        pretrain: {
          workers: 2,
          batchPerWorker: 2,
          epochs,
          optimizer: { type: "lars", lr: 0.3 },
          // Nothing is on disk before the end.
          checkpoint: { everyEpochs: epochs },
          monitor: { everyEpochs: 1 },
        },
        elastic,
      }),
    );
  const finish = (id: string): Promise<ShownExperiment> =>
    untilExperiment(suite.cluster, id, ({ state }) => state === "succeeded", 120_000);

  before(async () => {
    undisturbed = await submit();
    await finish(undisturbed);
  });

  /** The process that has this rank, once the experiment has come some steps further. */
  async function processOf(id: string, rank: number, step: number): Promise<TestProcess> {
    const { cluster } = suite;
    await untilExperiment(cluster, id, ({ progress }) => (progress?.step ?? 0) >= step, 60_000);
    return await processOfRank(cluster, id, rank);
  }

  function assertUndisturbed(id: string): void {
    const { cluster } = suite;
    const facts = (experiment: string) =>
      readScalars(cluster, experiment, "pretrain").map((row) => [
        row.step,
        row.loss,
        row.lr,
        row["probe/batch_loss"],
      ]);
    assert.equal(facts(id).length, STEPS);
    assert.deepEqual(facts(id), facts(undisturbed));
    for (const file of ["model", "optimizer", "probe"]) {
      const weights = (experiment: string) => readWeights(cluster, experiment, "pretrain", file);
      assert.deepEqual(weights(id), weights(undisturbed), `${file}.safetensors`);
    }
  }

  for (const rank of [0, 1]) {
    it(`goes on from a peer's memory when rank ${rank} is killed`, async () => {
      const { cluster } = suite;
      const id = await submit();
      const victim = await processOf(id, rank, 10);
      const survivors = cluster.workers.filter((worker) => worker !== victim);
      assert.equal((await victim.end("SIGKILL")).signal, "SIGKILL");
      const { generation } = await finish(id);
      assert.ok(generation > 1);
      assertUndisturbed(id);

      const logs = survivors.map(({ stderr }) => stderr()).join("");
      const resumed = logs.split("\n").filter((line) => line.includes("resuming"));
      const ours = resumed.map((line) => JSON.parse(line)).filter((one) => one.experiment === id);
      assert.ok(ours.length > 0);
      assert.ok(ours.every(({ from }) => from.type === "replica" && from.root !== undefined));
      assert.ok(survivors.every(({ child }) => child.exitCode === null));
      await cluster.addWorkers(1);
    });
  }

  it("loses no step when a worker is told to leave", async () => {
    const id = await submit();
    const victim = await processOf(id, 1, 10);
    const { code, stderr } = await victim.end("SIGTERM");
    assert.equal(code, ERROR_SPECS.PREEMPTED.exit);
    assert.match(stderr, /stopped at a step boundary/);
    await finish(id);
    assertUndisturbed(id);
  });

  it("goes on without it when nobody comes, and grows when somebody does", async () => {
    const { cluster } = suite;
    const id = await submit(10_000, { minWorkers: 1, waitSeconds: 1 });
    const victim = await processOf(id, 1, 10);
    assert.equal((await victim.end("SIGKILL")).signal, "SIGKILL");
    const trainsOn =
      (size: number, beyond: number) =>
      ({ state, workers, progress }: ShownExperiment) =>
        state === "running" && workers.length === size && (progress?.step ?? 0) > beyond;
    const alone = await untilExperiment(cluster, id, trainsOn(1, 10), 60_000);
    assert.equal(alone.reason, "on 1 of 2 workers");
    await cluster.addWorkers(1);
    const grown = await untilExperiment(cluster, id, trainsOn(2, alone.progress!.step), 60_000);
    assert.equal(grown.membershipChanges, 1);

    await cluster.cli("cancel", id);
    const isCancelled = ({ state }: ShownExperiment) => state === "cancelled";
    const { progress } = await untilExperiment(cluster, id, isCancelled, 30_000);
    const steps = readScalars(cluster, id, "pretrain").map(({ step }) => step);
    assert.deepEqual(
      steps,
      steps.map((_, index) => index + 1),
    );
    assert.ok(steps.length >= grown.progress!.step);
    assert.equal(progress!.checkpointStep, steps.length);
  });
});
