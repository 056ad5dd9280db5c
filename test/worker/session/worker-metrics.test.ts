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
    waitSeconds: 0.2,
    phaseSeconds: { data: 0, forward: 0, loss: 0, backward: 0, reduce: 0.1, update: 0 },
    syncNormSeconds: undefined,
    allReduce: { seconds: 0.4, hidden: 0.75 },
  };
  const open = (): WorkerMetrics => {
    const metrics = new WorkerMetrics(
      "reference",
      "CPU",
      { counts: new Map([["version", 2]]) },
      "/no/such/folder/yet",
    );
    metrics.begin({ experiment: "e1", stage: "pretrain", rank: 3 });
    return metrics;
  };
  const hidden = async (metrics: WorkerMetrics): Promise<readonly string[]> => {
    const text = await metrics.registry.getSingleMetricAsString(NAME);
    return text.split("\n").filter((line) => line.startsWith(NAME));
  };

  it("count the peers that were refused, at all times", async () => {
    const name = "simclr_worker_refused_peers_total";
    const text = await open().registry.getSingleMetricAsString(name);
    assert.match(text, /^simclr_worker_refused_peers_total\{reason="version"\} 2$/m);
  });

  it("say how much of the last step's all-reduce was hidden", async () => {
    const metrics = open();
    metrics.step(report);
    const expected = `${NAME}{experiment="e1",stage="pretrain",rank="3"} 0.75`;
    assert.deepEqual(await hidden(metrics), [expected]);
    metrics.end();
    assert.deepEqual(await hidden(metrics), []);
  });

  it("tell of the features' quality and the loss's bound while a stage lasts", async () => {
    const metrics = open();
    const accuracy = { top1: 50, top5: 90, images: 8 };
    metrics.step({ ...report, bound: { value: 4.1, isReached: true } });
    metrics.monitored({ step: 1, knn: [{ neighbours: 20, ...accuracy }], probe: accuracy }, 1.5);
    const names = /^simclr_worker_(?:loss_|knn|probe|monitor)[^ ]* .*$/gm;
    const samples = async () => [...(await metrics.registry.metrics()).matchAll(names)].flat();
    const labels = 'experiment="e1",stage="pretrain",rank="3"';
    assert.deepEqual((await samples()).sort(), [
      `simclr_worker_knn_top1_percent{${labels},k="20"} 50`,
      `simclr_worker_knn_top5_percent{${labels},k="20"} 90`,
      `simclr_worker_loss_at_bound{${labels}} 1`,
      `simclr_worker_loss_bound{${labels}} 4.1`,
      `simclr_worker_monitor_seconds{${labels}} 1.5`,
      `simclr_worker_probe_top1_percent{${labels}} 50`,
      `simclr_worker_probe_top5_percent{${labels}} 90`,
    ]);
    metrics.end();
    assert.deepEqual(await samples(), []);
  });

  it("tell the worker's own part of its steps from what it waited", async () => {
    const metrics = open();
    metrics.step(report);
    metrics.step(report);
    const text = await metrics.registry.metrics();
    const sums = /^simclr_worker_(own_step|wait)_seconds_sum\{.*\} (.*)$/gm;
    const found = [...text.matchAll(sums)].map(([, name, sum]) => [name, sum]);
    assert.deepEqual(found, [
      ["own_step", "0.6"],
      ["wait", "0.4"],
    ]);
  });

  it("keep the totals of a rank until it is another one's turn", async () => {
    const metrics = open();
    const seen = async (): Promise<readonly string[]> => {
      const text = await metrics.registry.metrics();
      const labels = /experiment="(\w+)",stage="(\w+)",rank="(\d)"/g;
      return [...new Set([...text.matchAll(labels)].map((match) => match.slice(1).join(" ")))];
    };
    const images = async (): Promise<string | undefined> =>
      /^simclr_worker_images_total\{.*\} (.*)$/m.exec(await metrics.registry.metrics())?.[1];
    metrics.step(report);
    metrics.end();
    assert.deepEqual(await seen(), ["e1 pretrain 3"]);
    metrics.begin({ experiment: "e1", stage: "pretrain", rank: 3 });
    metrics.step(report);
    assert.equal(await images(), "16");
    metrics.begin({ experiment: "e1", stage: "pretrain", rank: 0 });
    metrics.step(report);
    assert.deepEqual(await seen(), ["e1 pretrain 0"]);
    metrics.begin({ experiment: "e1", stage: "linear", rank: 0 });
    assert.deepEqual(await seen(), ["e1 linear 0"]);
  });

  it("add up what synchronised batch norm costs, where there is any", async () => {
    const name = "simclr_worker_syncbn_seconds_total";
    const metrics = open();
    metrics.step(report);
    assert.doesNotMatch(await metrics.registry.metrics(), new RegExp(`^${name}`, "m"));
    metrics.step({ ...report, syncNormSeconds: 0.125 });
    metrics.step({ ...report, syncNormSeconds: 0.25 });
    const text = await metrics.registry.getSingleMetricAsString(name);
    assert.match(text, /\{experiment="e1",stage="pretrain",rank="3"\} 0\.375$/m);
  });

  it("tell how much room there is where the work folder will be", async () => {
    const text = await open().registry.metrics();
    const [free, size] = ["free", "size"].map((name) =>
      Number(new RegExp(`^simclr_worker_disk_${name}_bytes (.*)$`, "m").exec(text)?.[1]),
    ) as [number, number];
    assert.ok(free > 0 && free <= size, `${free} of ${size}`);
  });

  it("say nothing of all-reduces where one worker trains alone", async () => {
    const metrics = open();
    metrics.step({ ...report, allReduce: undefined });
    assert.deepEqual(await hidden(metrics), []);
  });
});
