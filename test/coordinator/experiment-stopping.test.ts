/** How gangs come apart. */

import assert from "node:assert/strict";
import { forsakenOf } from "../../coordinator/experiment/experiment-stopping.ts";
import { ExperimentRun, GANG, running } from "./experiment-run.ts";

const drain = (
  run: ExperimentRun,
  cause: "preemption" | "membership",
  keepCheckpoint = false,
): ExperimentRun => {
  const { generation } = run.experiment;
  const because = "rank 1 (worker w1-name) drains: SIGTERM";
  return run.apply({ type: "reform", generation, cause, because, keepCheckpoint, drained: "w1" });
};
const reasonOf = ({ experiment: { phase } }: ExperimentRun): string =>
  phase.status === "waiting" ? phase.reason : "";

describe("gang that loses a member", () => {
  it("restarts with the rank, the worker and the reason for a reason", () => {
    const run = running().lose("w2").leave("w0", "w1");
    const lost = "rank 2 (worker w2-name) was lost: no heartbeat for 5012 ms";
    assert.equal(reasonOf(run), `restarts, because ${lost}`);
    assert.deepEqual(
      run.experiment.timeline.slice(-4).map(({ type, message }) => [type, message]),
      [
        ["worker-lost", lost],
        ["state", lost],
        ["restart", `failure: ${lost}`],
        ["state", "all members have left the generation"],
      ],
    );
  });

  it("names the lost member, though its peers were heard first", () => {
    const run = running().accuse("w0", [2]).accuse("w1", [2]).lose("w2");
    assert.match(reasonOf(run), /^restarts, because rank 2 \(worker w2-name\) was lost/);
    const contact = run.experiment.timeline.filter(({ type }) => type === "contact-lost");
    assert.deepEqual(
      contact.map(({ message }) => message),
      ["rank 0 lost contact with rank 2", "rank 1 lost contact with rank 2"],
    );
  });

  it("names an error before the loss that follows from it", () => {
    const error = { code: "REPLICAS_DIVERGED", message: "at step 7", unixMs: 1 } as const;
    const run = running().lose("w2").fail("w1", error).leave("w0", "w1");
    assert.equal(reasonOf(run), "restarts, because rank 1: REPLICAS_DIVERGED: at step 7");
  });

  it("does not wait for a step boundary any more", () => {
    const run = running().apply({ type: "pause" }).lose("w2");
    assert.deepEqual(run.aborts, [[false, true, "w0 w1"]]);
    assert.equal(run.leave("w0", "w1").status, "paused");
  });

  it("counts one that is lost after it has left once", () => {
    const run = running().apply({ type: "pause" }).leave("w2");
    const before = run.experiment;
    assert.equal(run.lose("w2").experiment, before);
  });
});

describe("member that its peers have lost", () => {
  const forsaken = (run: ExperimentRun): readonly string[] => forsakenOf(run.experiment);

  it("is forsaken when half of the others say so", () => {
    assert.deepEqual(forsaken(running().accuse("w0", [2])), ["w2"]);
  });

  it("is not when fewer do", () => {
    const five = ["w0", "w1", "w2", "w3"];
    const run = new ExperimentRun().assign(1).progress(1);
    const wide = { ...run.experiment, phase: { status: "forming", gang: five } } as const;
    const gang = new ExperimentRun(wide);
    assert.deepEqual(forsaken(gang.accuse("w0", [3])), []);
    assert.deepEqual(forsaken(gang.accuse("w1", [3])), ["w3"]);
  });

  it("is not while nobody says so, nor once it has left", () => {
    assert.deepEqual(forsaken(running().leave("w0", "w1")), []);
    assert.deepEqual(forsaken(running().leave("w2").accuse("w0", [2])), []);
  });

  it("cannot be accused by itself, nor outside of the gang", () => {
    assert.deepEqual(forsaken(running().accuse("w0", [0, 7])), []);
  });
});

describe("gang whose member drains", () => {
  it("stops at a step boundary and starts again, which is no failure", () => {
    const run = drain(running(), "membership");
    assert.deepEqual(run.aborts, [[true, false, "w0 w1 w2"]]);
    run.leave(...GANG);
    assert.equal(run.status, "waiting");
    assert.deepEqual(run.experiment.restarts, { failure: 0, preemption: 0, membership: 1 });
    assert.equal(run.experiment.fruitlessRestarts, 0);
  });

  it("was preempted, though a peer was heard first", () => {
    const run = drain(running().leave("w0"), "preemption").leave("w1", "w2");
    assert.deepEqual(run.experiment.restarts, { failure: 0, preemption: 1, membership: 0 });
    assert.match(reasonOf(run), /drains: SIGTERM/);
  });

  it("has failed when one of them was lost before", () => {
    const run = drain(running().lose("w2"), "preemption").leave("w0", "w1");
    assert.equal(run.experiment.restarts.failure, 1);
  });

  it("has failed when one of them meets an error of its own", () => {
    const error = { code: "REPLICAS_DIVERGED", message: "at step 7" } as const;
    const run = drain(running(), "preemption")
      .fail("w2", error)
      .leave(...GANG);
    assert.equal(run.experiment.restarts.failure, 1);
  });

  it("keeps a checkpoint when everybody leaves", () => {
    const run = drain(drain(running(), "preemption"), "preemption", true);
    assert.deepEqual(run.aborts, [[true, true, "w0 w1 w2"]]);
  });
});

describe("gang that does not come to a step boundary", () => {
  it("gives its step up, and still keeps its checkpoint", () => {
    const run = running().apply({ type: "pause" }).leave("w0");
    run.apply({ type: "stop-overdue", afterMs: 30_000 });
    assert.deepEqual(run.aborts, [[false, true, "w1 w2"]]);
    assert.equal(run.experiment.timeline.at(-1)?.type, "stop-overdue");
    const before = run.experiment;
    assert.equal(run.apply({ type: "stop-overdue", afterMs: 30_000 }).experiment, before);
  });

  it("is left alone when it is not stopping", () => {
    const run = running();
    const before = run.experiment;
    assert.equal(run.apply({ type: "stop-overdue", afterMs: 1 }).experiment, before);
  });
});

describe("timeline", () => {
  const types = (run: ExperimentRun): readonly string[] =>
    run.experiment.timeline.map(({ type }) => type);

  it("has the newest checkpoint only", () => {
    const run = running();
    for (const step of [10, 20, 20, 30]) run.progress(step + 1, { checkpointStep: step });
    const checkpoints = run.experiment.timeline.filter(({ type }) => type === "checkpoint");
    assert.deepEqual(
      checkpoints.map(({ message }) => message),
      ["step 30 is durable"],
    );
  });

  it("goes on with the newest checkpoint when a later gang has written none yet", () => {
    const run = running().progress(11, { checkpointStep: 10 });
    run.fail("w0").leave("w0", "w1", "w2").assign().progress(12);
    assert.equal(run.experiment.progress?.checkpointStep, 10);
    run.progress(21, { checkpointStep: 20 });
    assert.equal(run.experiment.progress?.checkpointStep, 20);
  });

  it("tells when a problem of the storage begins and when it is over", () => {
    const run = running().progress(2, { storageProblem: "disk full" });
    run.progress(3, { storageProblem: "disk full" }).progress(4).progress(5);
    assert.deepEqual(
      types(run).filter((type) => type.startsWith("storage")),
      ["storage-problem", "storage-problem-over"],
    );
  });

  it("stays the same while there is nothing but progress", () => {
    const run = running();
    const { timeline } = run.experiment;
    assert.equal(run.progress(2).progress(3).experiment.timeline, timeline);
  });

  it("numbers its entries", () => {
    const { timeline } = running().experiment;
    assert.deepEqual(
      timeline.map(({ sequence }) => sequence),
      [1, 2],
    );
  });
});
