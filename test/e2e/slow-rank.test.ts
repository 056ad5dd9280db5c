import assert from "node:assert/strict";
import type { Straggler } from "../../proto/gen/coordinator.ts";
import {
  metricsPortOf,
  type ShownExperiment,
  tinyRecipe,
  untilExperiment,
  useCluster,
} from "../support/cluster.ts";
import type { TestProcess } from "../support/processes.ts";

/** Well below the silence after which a rank counts as lost. */
const CYCLE_MS = 200;
const STOPPED_MS = 160;

describe("a gang of which one worker gets a fifth of its time", function () {
  this.timeout(120_000);
  const suite = useCluster({ images: { train: 16, val: 2 }, workers: 0 });

  it("names it as the straggler, by its own time and not by what the other waits", async () => {
    const { cluster } = suite;
    await cluster.addWorkers(2, "--http-port", "0");
    const [slow, prompt] = cluster.workers as [TestProcess, TestProcess];
    const recipe = tinyRecipe(suite.data, {
      stages: ["pretrain"],
      pretrain: {
        workers: 2,
        batchPerWorker: 4,
        epochs: 1000,
        optimizer: { type: "lars", lr: 0.1 },
        monitor: { everyEpochs: 1000 },
      },
      elastic: { stragglerFactor: 1.5 },
    });
    const id = await suite.submit(recipe);
    await untilExperiment(cluster, id, ({ progress }) => (progress?.step ?? 0) > 0, 60_000);
    const [slowBefore, promptBefore] = [await timesOf(slow), await timesOf(prompt)];
    const goOn = slowDown(slow.pid);
    try {
      const isNamed = ({ stragglers }: ShownExperiment) => stragglers.length > 0;
      const { stragglers } = await untilExperiment(cluster, id, isNamed, 60_000);
      const [{ workerName, phase }] = stragglers as [Straggler];
      assert.equal(stragglers.length, 1);
      assert.ok(workerName.endsWith(`:${slow.pid}`), `${workerName} is process ${slow.pid}`);
      assert.equal(phase, "compute");
    } finally {
      goOn();
    }
    const own = since(slowBefore, await timesOf(slow));
    const other = since(promptBefore, await timesOf(prompt));
    assert.ok(own.own > 1.5 * other.own, `${own.own} s a step against ${other.own} s`);
    assert.ok(other.waited > other.own, `${other.waited} s of waiting, ${other.own} s of its own`);
    await cluster.cli("cancel", id);
  });
});

/** Stops a process for most of each cycle, as a machine does that has too much to do. */
function slowDown(pid: number): () => void {
  let waking: NodeJS.Timeout | undefined;
  const wake = (): boolean => process.kill(pid, "SIGCONT");
  const cycle = setInterval(() => {
    process.kill(pid, "SIGSTOP");
    waking = setTimeout(wake, STOPPED_MS);
  }, CYCLE_MS);
  return () => {
    clearInterval(cycle);
    clearTimeout(waking);
    wake();
  };
}

interface Times {
  readonly steps: number;
  /** Seconds, of all these steps. */
  readonly own: number;
  readonly waited: number;
}

/** From what the worker serves as its metrics. */
async function timesOf(worker: TestProcess): Promise<Times> {
  const port = await metricsPortOf(worker);
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const value = (name: string): number =>
    Number(new RegExp(`^simclr_worker_${name}\\{.*\\} (.*)$`, "m").exec(text)?.[1]);
  return {
    steps: value("own_step_seconds_count"),
    own: value("own_step_seconds_sum"),
    waited: value("wait_seconds_sum"),
  };
}

/** Means of the steps between two looks. */
function since(before: Times, after: Times): Times {
  const steps = after.steps - before.steps;
  const mean = (of: "own" | "waited"): number => (after[of] - before[of]) / steps;
  return { steps, own: mean("own"), waited: mean("waited") };
}
