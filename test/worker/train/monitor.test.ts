import assert from "node:assert/strict";
import { parseRecipe } from "../../../proto/recipe.ts";
import { soloGroup } from "../../../worker/collective/process-group.ts";
import { monitorPlan } from "../../../worker/session/load-plans.ts";
import type { Beside } from "../../../worker/train/checkpoint-writer.ts";
import { Monitor } from "../../../worker/train/monitor.ts";
import { ReplicaKeeper } from "../../../worker/train/replica.ts";
import type { EngineThreadMessage, StageJob } from "../../../worker/train/stage-job.ts";
import { silentLog } from "../../../worker/train/stage-log.ts";
import { tinyRecipe } from "../../support/cluster.ts";
import { ReferenceEngine } from "../../support/reference-engine.ts";

const parts = tinyRecipe("unused", {});
const recipe = parseRecipe({
  ...parts,
  pretrain: {
    ...parts.pretrain,
    epochs: 5,
    monitor: { everyEpochs: 2, knn: { neighbours: [1] } },
  },
});
const STEPS_PER_EPOCH = 10;
const FEATURES = 3;

/** A monitor that sees no images, and counts how often it looks. */
function open(classes = 2) {
  const engine = new ReferenceEngine();
  const passes: string[] = [];
  const lines: object[] = [];
  const sent: EngineThreadMessage[] = [];
  const plan = monitorPlan(recipe, { rank: 0, worldSize: 1, startStep: 0 }, 8);
  const monitor = new Monitor({
    engine,
    context: {
      job: { recipe, control: new Int32Array(new SharedArrayBuffer(8)) } as StageJob,
      group: soloGroup,
      replicas: new ReplicaKeeper(),
      log: { ...silentLog(), write: (line) => lines.push(line) },
      checkpoints: undefined,
      send: (message) => sent.push(message),
    },
    monitor: { classes, splits: { train: { plan, count: 8 }, val: { plan, count: 8 } } },
    model: { features: FEATURES, openEval: () => (images) => engine.globalAveragePool(images) },
    stepsPerEpoch: STEPS_PER_EPOCH,
    passOver: (split) => passes.push(split),
  });
  return { monitor, passes, lines, sent };
}

describe("a monitor", () => {
  const stored: Beside = {
    scalars: { monitor_step: 20, monitor_images: 8, "knn/top1_k1": 50, "knn/top5_k1": 75 },
  };

  it("looks at the features every few epochs, and after the last", () => {
    const { monitor, passes, lines } = open();
    for (let step = 1; step <= 50; step++) monitor.evaluate(step);
    assert.deepEqual(passes, Array(3).fill(["val", "train"]).flat());
    assert.deepEqual(
      lines.map((line) => "step" in line && line.step),
      [20, 40, 50],
    );
  });

  it("makes up for an evaluation that a checkpoint lacks", () => {
    const late = open();
    late.monitor.restore({ beside: stored, root: 0 }, 40);
    assert.deepEqual(late.passes, ["val", "train"]);
    const early = open();
    early.monitor.restore({ beside: { scalars: {} }, root: 0 }, 15);
    assert.deepEqual(early.passes, []);
  });

  it("takes over the figures of an evaluation that a checkpoint has", () => {
    const { monitor, passes, sent } = open();
    monitor.restore({ beside: stored, root: 0 }, 20);
    assert.deepEqual(passes, []);
    assert.deepEqual(monitor.result(), { "knn/top1_k1": 50, "knn/top5_k1": 75 });
    assert.deepEqual(monitor.beside().scalars, stored.scalars);
    assert.deepEqual(
      sent.map(({ type }) => type),
      ["monitored"],
    );
  });

  it("begins its probe anew, with a warning, when the data has other classes now", () => {
    const { probe } = open(4).monitor.beside();
    const { monitor, sent } = open(2);
    monitor.restore({ beside: { scalars: {}, ...(probe && { probe }) }, root: 0 }, 5);
    const [warning] = sent;
    assert.ok(warning?.type === "warning");
    assert.match(warning.message, /begins anew: .*fc\.weight is \[4, 3\], not \[2, 3\]/);
    assert.deepEqual(monitor.beside().probe, open(2).monitor.beside().probe);
  });
});
