/** The coordinator over real gRPC and a real Redis, with workers that the test speaks for. */

import assert from "node:assert/strict";
import { parseRecipe } from "../../proto/recipe.ts";
import { useRig } from "./coordinator-rig.ts";
import { type FakeWorker, STAGES } from "./fake-worker.ts";

describe("coordinator", function () {
  this.timeout(30_000);
  const rig = useRig();

  /** Three workers that train the pretrain stage of an experiment. */
  async function training(linear = 2): Promise<{ id: string; gang: FakeWorker[] }> {
    const gang = await rig().joinAll("w0", "w1", "w2");
    const id = await rig().submit({ pretrain: 3, linear });
    await Promise.all(gang.map((worker) => worker.accept()));
    gang[0]?.progress(1);
    await rig().untilState(id, "running");
    return { id, gang };
  }

  const obeyAll = (gang: readonly FakeWorker[]) =>
    Promise.all(gang.map((worker, rank) => worker.obey(rank)));

  it("takes an experiment through both stages to its results", async () => {
    const workers = await rig().joinAll("w0", "w1", "w2");
    const id = await rig().submit({ pretrain: 3, linear: 2 }, { name: "mine" });
    const assignments = await Promise.all(workers.map((worker) => worker.accept()));
    for (const [rank, assignment] of assignments.entries()) {
      assert.equal(assignment.rank, rank);
      assert.equal(assignment.stage, STAGES.pretrain);
      assert.deepEqual(assignment.peers, [
        { workerId: "w0", address: "127.0.0.1:10000" },
        { workerId: "w1", address: "127.0.0.1:10001" },
        { workerId: "w2", address: "127.0.0.1:10002" },
      ]);
      assert.equal(parseRecipe(JSON.parse(assignment.recipeJson)).pretrain.workers, 3);
    }
    await rig().untilState(id, "forming");

    workers[0]?.progress(7, { loss: 3.5 });
    const running = await rig().untilState(id, "running");
    assert.equal(running.name, "mine");
    assert.deepEqual(running.workerIds, ["w0", "w1", "w2"]);
    assert.deepEqual([running.progress?.step, running.progress?.loss], [7, 3.5]);

    for (const [rank, worker] of workers.entries()) worker.finish(rank, '{"loss_last":1.5}');
    const linear = await Promise.all(workers.slice(0, 2).map((worker) => worker.accept()));
    assert.deepEqual(
      linear.map(({ stage, rank, peers }) => [stage, rank, peers.length]),
      [
        [STAGES.linear, 0, 2],
        [STAGES.linear, 1, 2],
      ],
    );
    assert.ok(linear.every(({ generation }) => generation > (assignments[0]?.generation ?? 0)));

    workers[0]?.finish(0, '{"top1":61.5}');
    workers[1]?.finish(1);
    const done = await rig().untilState(id, "succeeded");
    assert.equal(done.pretrainResultJson, '{"loss_last":1.5}');
    assert.equal(done.linearResultJson, '{"top1":61.5}');
    assert.ok((done.finishedUnixMs ?? 0) >= (done.startedUnixMs ?? Infinity));
    const states = done.history.map(({ to }) => to.replace("EXPERIMENT_STATE_", "").toLowerCase());
    const stage = ["forming", "running"];
    assert.deepEqual(states, [...stage, "waiting", ...stage, "succeeded"]);
  });

  describe("when a stage may have fewer workers", () => {
    const elastic = (id: string, reason: string) =>
      rig().untilExperiment(id, reason, (experiment) => experiment.reason === reason);

    it("goes on with fewer, and stops at a step boundary to grow", async () => {
      const [first] = await rig().joinAll("w0");
      const id = await rig().submit({ pretrain: 2, linear: 1 }, { elastic: [1, 0] });
      await first?.accept();
      first?.progress(1);
      const small = await elastic(id, "on 1 of 2 workers");
      assert.deepEqual([small.workerIds, small.ranks], [["w0"], 2]);

      const second = await rig().join("w1");
      const abort = await first?.receive("abort");
      assert.deepEqual(
        [abort?.because, abort?.atStepBoundary, abort?.keepCheckpoint],
        ["grows from 1 to 2 workers", true, false],
      );
      first?.leave(1);
      const assignments = await Promise.all([first?.accept(), second.accept()]);
      assert.deepEqual(
        assignments.map((assignment) => [assignment?.rank, assignment?.peers.length]),
        [
          [0, 2],
          [1, 2],
        ],
      );
      first?.progress(2);
      assert.equal((await rig().untilState(id, "running")).reason, "");
    });

    it("waits for more workers first, as long as it was told", async () => {
      await rig().joinAll("w0");
      const id = await rig().submit({ pretrain: 2, linear: 1 }, { elastic: [1, 30] });
      await elastic(
        id,
        "waits up to 30 s more for 2 workers before it goes on with 1: 1 idle of 1 connected",
      );
    });
  });

  it("says what a waiting experiment waits for, while workers come", async () => {
    const id = await rig().submit({ pretrain: 3, linear: 1 });
    for (const [count, reason] of [
      [0, "waits for 3 workers: none is connected"],
      [1, "waits for 3 workers: 1 idle of 1 connected"],
      [2, "waits for 3 workers: 2 idle of 2 connected"],
    ] as const) {
      if (count > 0) await rig().join(`w${count}`);
      await rig().untilExperiment(id, reason, (experiment) => experiment.reason === reason);
    }
  });

  it("fails with the root cause when a rank meets a fatal error, and frees its peers", async () => {
    const { id, gang } = await training();
    gang[1]?.fail(1, "LOSS_NOT_FINITE", "loss is NaN at step 2");
    gang[1]?.leave(1);
    const [because] = await obeyAll([gang[0], gang[2]].filter((worker) => worker !== undefined));
    assert.equal(because, "rank 1: LOSS_NOT_FINITE: loss is NaN at step 2");

    const failed = await rig().untilState(id, "failed");
    assert.equal(failed.errorCode, "LOSS_NOT_FINITE");
    assert.equal(failed.reason, "rank 1: LOSS_NOT_FINITE: loss is NaN at step 2");
    const workers = await rig().operator.workers();
    assert.deepEqual(
      workers.map(({ state }) => state),
      ["idle", "idle", "idle"],
    );
  });

  it("forms the next generation when a gang breaks up, and goes on", async () => {
    const { id, gang } = await training();
    const { generation } = await rig().operator.get(id);
    gang[2]?.leave(2, "a peer was lost");
    await obeyAll(gang.slice(0, 2));
    const next = await Promise.all(gang.map((worker) => worker.accept()));
    assert.ok(next.every((assignment) => assignment.generation > generation));
    const again = await rig().untilState(id, "forming");
    assert.equal(again.restarts, 1);
  });

  it("fails an experiment that breaks up again and again at the same step", async () => {
    const { id, gang } = await training();
    for (let count = 0; count < 3; count++) {
      for (const [rank, worker] of gang.entries()) worker.leave(rank, "a peer was lost");
      await Promise.all(gang.map((worker) => worker.accept()));
    }
    for (const [rank, worker] of gang.entries()) worker.leave(rank, "a peer was lost");
    const { reason, errorCode } = await rig().untilState(id, "failed");
    assert.match(
      reason,
      /^3 restarts made no progress; rank \d \(worker w\d-name\) left: a peer was lost$/,
    );
    assert.equal(errorCode, "GENERATION_ABORTED");
  });

  describe("when a worker is lost", () => {
    it("replaces it by a spare one, whether its connection broke or it went silent", async () => {
      const { id, gang } = await training();
      for (const [index, lose] of (["close", "freeze"] as const).entries()) {
        const spare = await rig().join(`spare${index}`);
        gang[2]?.[lose]();
        await obeyAll(gang.slice(0, 2));
        gang[2] = spare;
        const [assignment] = await Promise.all(gang.map((worker) => worker.accept()));
        assert.deepEqual(
          assignment?.peers.map(({ workerId }) => workerId),
          ["w0", "w1", spare.id],
        );
        gang[0]?.progress(10 * (index + 1));
        await rig().untilState(id, "running");
      }
      const workers = await rig().operator.workers();
      const lost = workers.filter(({ state }) => state === "lost").map(({ workerId }) => workerId);
      assert.deepEqual(lost, ["w2", "spare0"]);
    });

    it("goes on without a restart when it comes back within its lease", async () => {
      const { id, gang } = await training();
      const running = gang[1]?.running;
      gang[1]?.close();
      const back = await rig().join("w1", { running });
      gang[0]?.progress(5);
      await rig().untilExperiment(id, "at step 5", ({ progress }) => progress?.step === 5);
      assert.equal((await rig().operator.get(id)).restarts, 0);
      assert.ok(!back.hasReceived("abort"));
    });

    it("stops the gang at once when it comes back with nothing in hand", async () => {
      const { id, gang } = await training();
      gang[1]?.close();
      await rig().join("w1");
      const [because] = await obeyAll([gang[0]].filter((worker) => worker !== undefined));
      assert.equal(because, "rank 1 (worker w1-name) was lost: it started anew");
      assert.equal((await rig().operator.get(id)).state, "EXPERIMENT_STATE_STOPPING");
    });
  });

  it("tells a worker that comes back too late that its generation is over", async () => {
    const running = { experimentId: "gone-1", stage: STAGES.pretrain, generation: 1, step: 9 };
    const late = await rig().join("w7", { running });
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    assert.equal((await late.receive("abort")).generation, 1);
    const busy = "waits for 1 worker: 0 idle of 1 connected";
    await rig().untilExperiment(id, busy, ({ reason }) => reason === busy);
    late.leave(0);
    assert.equal((await late.accept()).experimentId, id);
  });

  it("ends the session of a worker that does not know of its assignment", async () => {
    const forgetful = await rig().join("w0");
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    await forgetful.receive("assignment");
    assert.match((await forgetful.ended())?.message ?? "", /w0 missed its lease/);
    const again = await rig().join("w0");
    const { experimentId } = await again.accept();
    assert.equal(experimentId, id);
  });

  it("ignores whatever is of an older generation", async () => {
    const { id, gang } = await training();
    const old = gang[0]?.running;
    gang[2]?.leave(2, "a peer was lost");
    await obeyAll(gang.slice(0, 2));
    await Promise.all(gang.map((worker) => worker.accept()));
    const present = gang[0]?.running;
    assert.ok(gang[0] && old && present);

    gang[0].running = old;
    gang[0].progress(99);
    gang[0].fail(0, "DATA_INVALID", "late");
    gang[0].finish(0, "{}");
    gang[0].running = old;
    gang[0].leave(0);
    gang[0].running = present;
    gang[0].progress(3);
    const { progress, state } = await rig().untilState(id, "running");
    assert.equal(progress?.step, 3);
    assert.equal(state, "EXPERIMENT_STATE_RUNNING");
  });

  describe("cancels", () => {
    it("an experiment that waits, at once", async () => {
      const id = await rig().submit({ pretrain: 3, linear: 1 });
      assert.equal((await rig().operator.cancel(id)).state, "EXPERIMENT_STATE_CANCELLED");
      await assert.rejects(rig().operator.cancel(id), { code: "STATE_CONFLICT" });
    });

    it("one that runs, once its workers have left; and takes it up again on demand", async () => {
      const { id, gang } = await training();
      assert.equal((await rig().operator.cancel(id)).state, "EXPERIMENT_STATE_STOPPING");
      await obeyAll(gang);
      await rig().untilState(id, "cancelled");

      await assert.rejects(rig().operator.retry("nobody"), { code: "NOT_FOUND" });
      await rig().operator.retry(id);
      const again = await Promise.all(gang.map((worker) => worker.accept()));
      assert.ok(again.every((assignment) => assignment.experimentId === id));
      await assert.rejects(rig().operator.retry(id), { code: "STATE_CONFLICT" });
    });
  });

  it("runs two experiments side by side", async () => {
    const workers = await rig().joinAll("w0", "w1", "w2");
    const ids = [
      await rig().submit({ pretrain: 2, linear: 1 }),
      await rig().submit({ pretrain: 1, linear: 1 }),
    ];
    const assignments = await Promise.all(workers.map((worker) => worker.accept()));
    workers[0]?.progress(1);
    workers[2]?.progress(1);
    for (const id of ids) await rig().untilState(id, "running");
    const [first, second] = ids;
    assert.deepEqual(
      assignments.map(({ experimentId }) => experimentId),
      [first, first, second],
    );
  });

  it("serves the higher priority first when workers come free", async () => {
    const worker = await rig().join("w0");
    const first = await rig().submit({ pretrain: 1, linear: 1 });
    await worker.accept();
    const normal = await rig().submit({ pretrain: 1, linear: 1 });
    const urgent = await rig().submit({ pretrain: 1, linear: 1 }, { priority: 5 });
    await rig().untilExperiment(urgent, "waits", ({ reason }) => /0 idle of 1/.test(reason));
    await rig().operator.cancel(first);
    await worker.obey(0);
    assert.equal((await worker.accept()).experimentId, urgent);
    assert.equal((await rig().operator.get(normal)).state, "EXPERIMENT_STATE_WAITING");
  });

  it("does not mix engines in a gang", async () => {
    const odd = await rig().join("a0", { engine: "other" });
    const gang = await rig().joinAll("w0", "w1");
    await rig().submit({ pretrain: 2, linear: 1 });
    const [assignment] = await Promise.all(gang.map((worker) => worker.accept()));
    assert.deepEqual(
      assignment?.peers.map(({ workerId }) => workerId),
      ["w0", "w1"],
    );
    assert.ok(!odd.hasReceived("assignment"));
  });

  it("streams every change to those who watch, and ends with the experiment", async () => {
    const worker = await rig().join("w0");
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    const seen = (async () => {
      const states: string[] = [];
      for await (const { state, stage } of rig().operator.watch(id)) {
        const short = `${state.replace("EXPERIMENT_STATE_", "")} ${stage.replace("STAGE_", "")}`;
        if (states.at(-1) !== short) states.push(short);
      }
      return states;
    })();
    for (let stage = 0; stage < 2; stage++) {
      await worker.accept();
      worker.progress(1);
      await rig().untilState(id, "running");
      worker.finish(0);
    }
    const tail = (await seen).slice(-4);
    assert.deepEqual(tail, [
      "WAITING LINEAR",
      "FORMING LINEAR",
      "RUNNING LINEAR",
      "SUCCEEDED LINEAR",
    ]);
  });

  it("sends gangs and workers away when it is told to close for good", async () => {
    const { gang } = await training();
    const closed = rig().coordinator.close({ dismiss: true });
    await obeyAll(gang);
    for (const worker of gang) {
      await worker.receive("dismiss");
      worker.close();
    }
    await closed;
    await rig().start();
  });
});
