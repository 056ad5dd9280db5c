import assert from "node:assert/strict";
import { ERROR_SPECS } from "../../proto/errors.ts";
import {
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

  const submit = () =>
    suite.submit(
      tinyRecipe(suite.data, {
        stages: ["pretrain"],
        pretrain: {
          workers: 2,
          batchPerWorker: 2,
          epochs: 2,
          optimizer: { type: "lars", lr: 0.3 },
          // Nothing is on disk before the end.
          checkpoint: { everyEpochs: 2 },
          monitor: { everyEpochs: 1 },
        },
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
    const members = await cluster.json<readonly Member[]>("workers");
    const name = members.find((one) => one.experiment === id && one.rank === rank)?.name;
    const found = cluster.workers.find(({ pid }) => name?.endsWith(`:${pid}`));
    assert.ok(found, `rank ${rank} is ${name}`);
    return found;
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
});

interface Member {
  readonly name: string;
  readonly experiment?: string;
  readonly rank?: number;
}
