import assert from "node:assert/strict";
import { summarise } from "./compare.ts";
import { laterMedian, median, profileRows, type StepMeasurement } from "./measurement.ts";

const PHASES = { data: 0, forward: 1, loss: 0, backward: 2, reduce: 0, update: 0 };
const OURS: StepMeasurement = {
  engine: "onednn",
  device: "CPU",
  step_s: 1,
  images_per_s: 8,
  peak_rss_mb: 500,
  loss: 2,
  phases: PHASES,
};

describe("median", () => {
  it("is the value in the middle, or the mean of two", () => {
    assert.equal(median([3, 1, 2]), 2);
    assert.equal(median([4, 1, 2, 3]), 2.5);
  });

  it("of step times is the slower one of two, as the peer takes it", () => {
    assert.equal(laterMedian([3, 1, 2]), 2);
    assert.equal(laterMedian([4, 1, 2, 3]), 3);
  });
});

describe("profile", () => {
  it("is per step, the longest operation first", () => {
    const add = { operation: "add", implementation: "vector", calls: 4, seconds: 0.1, flops: 0 };
    const convolution = { ...add, operation: "convolution", seconds: 0.5, flops: 1e10 };
    const rows = profileRows([add, convolution], [0.5, 0.75]);
    assert.deepEqual(rows, [
      {
        operation: "convolution",
        implementation: "vector",
        calls_per_step: 2,
        ms_per_step: 250,
        gflops_per_s: 20,
        share: 0.4,
      },
      {
        operation: "add",
        implementation: "vector",
        calls_per_step: 2,
        ms_per_step: 50,
        gflops_per_s: 0,
        share: 0.08,
      },
    ]);
  });
});

describe("comparison", () => {
  const round = (oursRate: number, peerRate: number, peak: number) => ({
    ours: { ...OURS, images_per_s: oursRate, peak_rss_mb: peak },
    peer: { step_s: 1, images_per_s: peerRate, peak_rss_mb: 1000, loss: 3 },
    ratio: oursRate / peerRate,
  });

  it("takes the median of the rounds' ratios, and the peak of memory", () => {
    const rounds = [round(8, 4, 400), round(6, 4, 600), round(8, 8, 500)];
    const { ours, peer, ratio, memory_ratio } = summarise(rounds);
    assert.equal(ratio, 1.5);
    assert.equal(ours.images_per_s, 8);
    assert.equal(peer.images_per_s, 4);
    assert.equal(ours.peak_rss_mb, 600);
    assert.equal(memory_ratio, 0.6);
    assert.deepEqual(ours.phases, PHASES);
  });
});
