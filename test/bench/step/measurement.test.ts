import assert from "node:assert/strict";
import { compare, type Round, summarise } from "./compare.ts";
import {
  type Figures,
  laterMedian,
  measurementOf,
  median,
  profileRows,
  type StepMeasurement,
} from "./measurement.ts";
import type { StepSpec } from "./step-spec.ts";

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

describe("measurement", () => {
  const run = { engine: "onednn", device: "CPU", peakRssMb: 500, profile: [] };
  const spec = { batch: 4, world: 2, warmup: 1 } as StepSpec;
  const report = (seconds: number, hidden: number) => ({
    step: 1,
    stepsTotal: 4,
    epoch: 1,
    epochsTotal: 1,
    epochEnded: false,
    loss: 2,
    lr: 1,
    images: 4,
    stepSeconds: 1,
    waitSeconds: 0,
    phaseSeconds: PHASES,
    syncNormSeconds: undefined,
    allReduce: seconds > 0 ? { seconds, hidden } : undefined,
  });

  it("has the middle of the measured steps' all-reduces", () => {
    const reports = [report(9, 0), report(0.25, 0.5), report(0.75, 1), report(0.5, 0.75)];
    const { all_reduce_s, all_reduce_hidden } = measurementOf(spec, reports, run);
    assert.deepEqual([all_reduce_s, all_reduce_hidden], [0.5, 0.75]);
  });

  it("has none with one rank", () => {
    assert.ok(!("all_reduce_s" in measurementOf(spec, [report(0, 0), report(0, 0)], run)));
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
    assert.equal(peer?.images_per_s, 4);
    assert.equal(ours.peak_rss_mb, 600);
    assert.equal(memory_ratio, 0.6);
    assert.deepEqual(ours.phases, PHASES);
  });

  it("with one rank alone tells how much longer a step of all takes", async () => {
    const asked: string[] = [];
    const seconds = [2, 1, 3, 2, 4, 1, 6, 2];
    const next = (side: string, world: number): Figures => {
      asked.push(`${side} ${world}`);
      return { step_s: seconds[asked.length - 1]!, images_per_s: 1, peak_rss_mb: 1, loss: 2 };
    };
    const reduced = { all_reduce_s: 0.5, all_reduce_hidden: 0.75 };
    const runs = {
      ours: async (world: number) => ({ ...OURS, ...reduced, ...next("ours", world) }),
      peer: async (world: number) => next("peer", world),
    };
    const heard: Round[] = [];
    const onRound = (each: Round) => heard.push(each);
    const options = { world: 4, scaling: true, rounds: 2, onRound };
    const { scaling, alone, rounds, ...found } = await compare(runs, options);
    const round = ["ours 4", "ours 1", "peer 4", "peer 1"];
    assert.deepEqual(asked, [...round, ...round]);
    assert.deepEqual(
      rounds.map((each) => each.scaling),
      [
        { ours: 2, peer: 1.5 },
        { ours: 4, peer: 3 },
      ],
    );
    assert.deepEqual(scaling, { ours: 3, peer: 2.25 });
    assert.deepEqual([alone?.ours.step_s, alone?.peer?.step_s], [1, 2]);
    assert.deepEqual([found.ours.step_s, found.peer?.step_s, found.ratio], [3, 4.5, 1]);
    assert.deepEqual([found.ours.all_reduce_s, found.ours.all_reduce_hidden], [0.5, 0.75]);
    assert.deepEqual(heard, rounds);
  });

  it("needs no peer to tell how a step scales", async () => {
    const ours = async (world: number) => ({ ...OURS, step_s: world });
    const options = { world: 2, scaling: true, rounds: 1, onRound: () => {} };
    const { scaling, ratio, peer } = await compare({ ours }, options);
    assert.deepEqual([scaling, ratio, peer], [{ ours: 2 }, undefined, undefined]);
  });
});
