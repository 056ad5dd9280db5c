/** What a run of two workers leaves for people: lines of their logs, and traces of their steps. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { tinyRecipe, untilExperiment, useCluster } from "../support/cluster.ts";

const TRACED_STEPS = 3;

interface Line {
  readonly event: string;
  readonly process: string;
  readonly worker?: string;
  readonly experiment: string;
  readonly stage?: string;
  readonly generation?: number;
  readonly rank?: number;
  readonly step?: number;
  readonly level: string;
  readonly to?: string;
}

interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly ts: number;
  readonly dur: number;
  readonly pid: number;
  readonly tid: number;
  readonly args?: { readonly step?: number; readonly bytes?: number; readonly name?: string };
}

const endOf = ({ ts, dur }: TraceEvent): number => ts + dur;
const holds = (outer: TraceEvent, inner: TraceEvent): boolean =>
  outer.ts <= inner.ts && endOf(inner) <= endOf(outer);
const overlaps = (a: TraceEvent, b: TraceEvent): boolean => a.ts < endOf(b) && b.ts < endOf(a);

describe("a run of two workers that are traced", function () {
  this.timeout(120_000);
  const suite = useCluster({ images: { train: 12, val: 2 }, workers: 0 });
  let id = "";
  let followed = "";
  let generation = 0;

  before(async () => {
    const { cluster } = suite;
    const traces = path.join(suite.dir, "traces", "run.json");
    const flags = ["--trace", traces, "--trace-steps", String(TRACED_STEPS)];
    await cluster.addWorkers(1, ...flags, "--name", "one", "--log-format", "pretty");
    await cluster.addWorkers(1, ...flags, "--name", "two");
    const { pretrain } = tinyRecipe(suite.data, {});
    id = await suite.submit(
      tinyRecipe(suite.data, {
        stages: ["pretrain"],
        // Wide enough for buckets that are not summed by the engine threads themselves.
        model: { depth: 18, width: 0.25, stem: "cifar", neck: { out: 16 } },
        collective: { bucketBytes: 600_000 },
        pretrain: { ...pretrain, workers: 2, batchPerWorker: 2, epochs: 1 },
      }),
    );
    const following = cluster.command("logs", id, "--follow").exited();
    const over = await untilExperiment(cluster, id, (s) => s.state === "succeeded", 90_000);
    generation = over.generation;
    const { code, stdout, stderr } = await following;
    assert.equal(code, 0, stderr);
    followed = stdout;
  });

  const read = async (...flags: string[]): Promise<Line[]> => {
    const { code, stdout, stderr } = await suite.cluster.cli("logs", id, "--json", ...flags);
    assert.equal(code, 0, stderr);
    return stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Line);
  };

  describe("has logs, which", () => {
    it("name the experiment, the generation, the rank and the step", async () => {
      const lines = await read();
      assert.ok(lines.every(({ experiment }) => experiment === id));
      const ended = lines.filter(({ event }) => event === "stage finished");
      const said = ended.map(({ process, worker, stage, generation: g, rank, step }) => {
        return { process, worker, stage, g, rank, step };
      });
      const place = { process: "worker", stage: "pretrain", g: generation, step: 6 };
      assert.deepEqual(
        said.sort((a, b) => Number(a.rank) - Number(b.rank)).map(({ worker: _, ...rest }) => rest),
        [
          { ...place, rank: 0 },
          { ...place, rank: 1 },
        ],
      );
      assert.deepEqual(said.map(({ worker }) => worker).sort(), ["one", "two"]);
    });

    it("have the coordinator's words on its states", async () => {
      const lines = await read();
      const states = lines.filter(({ process, to }) => process === "coordinator" && to);
      assert.deepEqual(
        states.map(({ to }) => to),
        ["forming", "running", "succeeded"],
      );
    });

    it("can be had of one rank, of a level, and of the newest", async () => {
      const ofOne = await read("--rank", "1");
      assert.ok(ofOne.length > 0);
      assert.ok(ofOne.every(({ rank }) => rank === 1));
      assert.deepEqual(await read("--level", "error"), []);
      assert.deepEqual(await read("--rank", "1", "--tail", "1"), ofOne.slice(-1));
    });

    it("are followed to the last one, for people", async () => {
      const lines = followed.trimEnd().split("\n");
      assert.equal(lines.length, (await read()).length);
      const finished = `INFO: pretrain g${generation} rank 0 step 6: stage finished`;
      assert.ok(
        lines.some((line) => line.endsWith(finished)),
        followed,
      );
      assert.match(lines.at(-1) ?? "", /coordinator pretrain g\d+: experiment .*"succeeded"/);
    });

    it("stand on the worker's standard error as it was asked to write them", () => {
      const [pretty, json] = suite.cluster.workers.map((worker) => worker.stderr());
      assert.match(pretty ?? "", /^\[.*Z\] INFO: .* pretrain g\d+ rank \d: assigned/m);
      const lines = (json ?? "").trimEnd().split("\n");
      assert.ok(lines.every((line) => typeof JSON.parse(line).event === "string"));
    });

    it("are of no experiment that is not there", async () => {
      const { code, stderr } = await suite.cluster.cli("logs", "nobody");
      assert.equal(code, 5);
      assert.equal(stderr, "error: there is no experiment nobody\n");
    });
  });

  describe("has a trace of each rank, in which", () => {
    const traces: TraceEvent[][] = [];
    const spansOf = (rank: number): TraceEvent[] =>
      (traces[rank] ?? []).filter(({ ph }) => ph === "X");
    const named = (rank: number, name: string): TraceEvent[] =>
      spansOf(rank).filter((span) => span.name === name);

    before(() => {
      for (const rank of [0, 1]) {
        const file = path.join(suite.dir, "traces", `run-g${generation}-rank-${rank}.json`);
        traces.push(JSON.parse(readFileSync(file, "utf8")) as TraceEvent[]);
      }
    });

    it("every span has a time, a place and an end", () => {
      for (const rank of [0, 1]) {
        assert.ok(spansOf(rank).length > 0);
        for (const { ts, dur, pid, tid } of spansOf(rank)) {
          assert.ok(Number.isSafeInteger(ts) && Number.isSafeInteger(dur) && dur >= 0);
          assert.ok(pid === rank && tid > 0);
        }
      }
    });

    it("the first steps, and no more, hold their phases, and those their collectives", () => {
      for (const rank of [0, 1]) {
        const steps = named(rank, "step");
        assert.deepEqual(
          steps.map(({ args }) => args?.step),
          [1, 2, 3],
        );
        const phases = ["data", "forward", "loss", "backward", "reduce", "update"];
        for (const phase of phases) {
          const spans = named(rank, phase);
          assert.equal(spans.length, TRACED_STEPS);
          for (const [k, span] of spans.entries()) assert.ok(holds(steps[k]!, span), phase);
        }
        const gathers = named(rank, "sync-bn: all-gather");
        assert.ok(gathers.length > 0);
        const own = [...named(rank, "forward"), ...named(rank, "backward")];
        for (const gather of gathers) assert.ok(own.some((phase) => holds(phase, gather)));
      }
    });

    it("sums of gradients go on beside backward, and never two on one row", () => {
      for (const rank of [0, 1]) {
        const sums = named(rank, "all-reduce");
        const backward = named(rank, "backward");
        assert.ok(sums.filter((sum) => backward.some((phase) => overlaps(sum, phase))).length > 0);
        assert.ok(sums.every(({ args }) => (args?.bytes ?? 0) > 0));
        for (const [k, sum] of sums.entries()) {
          const others = sums.slice(k + 1).filter(({ tid }) => tid === sum.tid);
          assert.ok(others.every((other) => !overlaps(sum, other)));
        }
      }
    });

    it("the ranks take a step at the same time", () => {
      const [ours, theirs] = [0, 1].map((rank) => named(rank, "step"));
      for (const [k, step] of (ours ?? []).entries()) assert.ok(overlaps(step, theirs![k]!));
    });
  });
});
