import assert from "node:assert/strict";
import { WorkerMetrics } from "../../../worker/session/worker-metrics.ts";
import type { StepReport } from "../../../worker/train/stage-job.ts";

describe("a worker's metrics", () => {
  const NAME = "simclr_worker_allreduce_hidden_ratio";
  const report: StepReport = {
    step: 1,
    stepsTotal: 2,
    epoch: 1,
    epochsTotal: 2,
    epochEnded: true,
    loss: 5,
    lr: 0.1,
    images: 8,
    stepSeconds: 0.5,
    phaseSeconds: { data: 0, forward: 0, loss: 0, backward: 0, reduce: 0.1, update: 0 },
    allReduce: { seconds: 0.4, hidden: 0.75 },
  };
  const open = (): WorkerMetrics => {
    const metrics = new WorkerMetrics("reference", "CPU");
    metrics.begin({ experiment: "e1", stage: "pretrain", rank: 3 });
    return metrics;
  };
  const hidden = async (metrics: WorkerMetrics): Promise<readonly string[]> => {
    const text = await metrics.registry.getSingleMetricAsString(NAME);
    return text.split("\n").filter((line) => line.startsWith(NAME));
  };

  it("say how much of the last step's all-reduce was hidden", async () => {
    const metrics = open();
    metrics.step(report);
    const expected = `${NAME}{experiment="e1",stage="pretrain",rank="3"} 0.75`;
    assert.deepEqual(await hidden(metrics), [expected]);
    metrics.end();
    assert.deepEqual(await hidden(metrics), []);
  });

  it("say nothing of all-reduces where one worker trains alone", async () => {
    const metrics = open();
    metrics.step({ ...report, allReduce: undefined });
    assert.deepEqual(await hidden(metrics), []);
  });
});
