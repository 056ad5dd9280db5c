/** Pausing, draining, and what is told of them, over real gRPC and a real Redis. */

import assert from "node:assert/strict";
import { useRig } from "./coordinator-rig.ts";
import type { FakeWorker } from "./fake-worker.ts";

describe("operator", function () {
  this.timeout(30_000);
  const rig = useRig();

  /** Workers that train the pretrain stage of an experiment. */
  async function training(...ids: readonly string[]) {
    const gang = await rig().joinAll(...ids);
    const id = await rig().submit({ pretrain: ids.length, linear: 1 });
    await Promise.all(gang.map((worker) => worker.accept()));
    gang[0]?.progress(1);
    await rig().untilState(id, "running");
    return { id, gang };
  }
  const obeyAll = (gang: readonly FakeWorker[]) =>
    Promise.all(gang.map((worker, rank) => worker.obey(rank)));
  const eventsOf = async (id: string): Promise<readonly string[]> =>
    (await rig().operator.events(id, 0)).map(({ type }) => type);

  it("pauses a gang, whose workers others may have meanwhile, and resumes it", async () => {
    const { id, gang } = await training("w0", "w1");
    const paused = await rig().operator.pause(id);
    assert.equal(paused.state, "EXPERIMENT_STATE_STOPPING");
    const orders = await Promise.all(gang.map((worker) => worker.receive("abort")));
    assert.ok(
      orders.every(({ atStepBoundary, keepCheckpoint }) => atStepBoundary && keepCheckpoint),
    );
    for (const [rank, worker] of gang.entries()) worker.leave(rank);
    await rig().untilState(id, "paused");

    const other = await rig().submit({ pretrain: 2, linear: 1 });
    const [assignment] = await Promise.all(gang.map((worker) => worker.accept()));
    assert.equal(assignment?.experimentId, other);
    await rig().operator.resume(id);
    await rig().operator.cancel(other);
    await obeyAll(gang);
    const [again] = await Promise.all(gang.map((worker) => worker.accept()));
    assert.equal(again?.experimentId, id);
    assert.equal((await rig().operator.get(id)).restarts, 0);
  });

  it("finds a paused experiment paused after a restart of the coordinator", async () => {
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    await rig().operator.pause(id);
    await rig().restart();
    const worker = await rig().join("w0");
    assert.equal((await rig().operator.get(id)).state, "EXPERIMENT_STATE_PAUSED");
    await rig().operator.resume(id);
    assert.equal((await worker.accept()).experimentId, id);
    const events = ["submitted", "state", "coordinator-took-over", "state", "state"];
    assert.deepEqual(await eventsOf(id), events);
  });

  it("drains a worker that is idle at once, by its name or the beginning of its id", async () => {
    const [first, second] = await rig().joinAll("abc-1", "abd-2");
    await assert.rejects(rig().operator.drain("ab"), { code: "USAGE", message: /abc-1, abd-2/ });
    await assert.rejects(rig().operator.drain("x"), { code: "NOT_FOUND" });
    assert.equal((await rig().operator.drain("abc")).draining, true);
    assert.match((await first?.receive("dismiss"))?.because ?? "", /operator/);
    assert.equal((await rig().operator.drain("abd-2-name")).workerId, "abd-2");
    await second?.receive("dismiss");
  });

  it("drains a worker out of its gang, which goes on with another", async () => {
    const { id, gang } = await training("w0", "w1");
    const spare = await rig().join("w2");
    const { draining, experimentId } = await rig().operator.drain("w1");
    assert.deepEqual([draining, experimentId], [true, id]);
    const orders = await Promise.all(gang.map((worker) => worker.receive("abort")));
    assert.deepEqual(
      orders.map(({ atStepBoundary, keepCheckpoint }) => [atStepBoundary, keepCheckpoint]),
      [
        [true, false],
        [true, false],
      ],
    );
    for (const [rank, worker] of gang.entries()) worker.leave(rank);
    await gang[1]?.receive("dismiss");
    const { peers } = (await spare.accept()) ?? {};
    assert.deepEqual(
      peers.map(({ workerId }) => workerId),
      ["w0", "w2"],
    );
    const { restarts, membershipChanges, failures } = await rig().operator.get(id);
    assert.deepEqual([restarts, membershipChanges, failures], [1, 1, 0]);
  });

  it("does not forget a worker that drains when the coordinator starts again", async () => {
    const { gang } = await training("w0", "w1");
    await rig().operator.drain("w1");
    const held = gang.map(({ id, running }) => ({ id, running }));
    await rig().restart();
    const back = await Promise.all(held.map((one) => rig().join(one.id, one)));
    for (const [rank, worker] of back.entries()) await worker.obey(rank);
    await back[1]?.receive("dismiss");
  });

  it("drains a worker that has yet to come back to a coordinator that took over", async () => {
    const { gang } = await training("w0");
    const [held] = gang.map(({ id, running }) => ({ id, running }));
    await rig().restart();
    await assert.rejects(rig().operator.drain("x"), { code: "NOT_FOUND" });
    await rig().restart();
    const drained = rig().operator.drain("w0-name");
    const back = await rig().join("w0", held);
    assert.equal((await drained).workerId, "w0");
    await back.receive("abort");
  });

  it("keeps a checkpoint when the only worker of a gang drains", async () => {
    const { gang } = await training("w0");
    await rig().operator.drain("w0");
    const { atStepBoundary, keepCheckpoint } = (await gang[0]?.receive("abort")) ?? {};
    assert.deepEqual([atStepBoundary, keepCheckpoint], [true, true]);
  });

  it("sees a worker that its machine sends away counted as a preemption", async () => {
    const { id, gang } = await training("w0", "w1");
    gang[1]?.say("draining", { because: "SIGTERM" });
    for (const [rank, worker] of gang.entries()) await worker.obey(rank);
    await rig().untilExperiment(id, "waiting", ({ preemptions }) => preemptions === 1);
    const { failures, reason } = await rig().operator.get(id);
    assert.equal(failures, 0);
    assert.equal(reason, "waits for 2 workers: 1 idle of 1 connected");
    assert.ok(!gang[1]?.hasReceived("dismiss"));
  });

  it("does not wait for the lease of a worker that its peers have lost, too", async () => {
    const { id, gang } = await training("w0", "w1", "w2");
    const spare = await rig().join("w3");
    gang[2]?.close();
    for (const [rank, worker] of gang.slice(0, 2).entries()) {
      worker.leave(rank, "rank 2 has gone", [2]);
    }
    await spare.accept();
    const events = (await rig().operator.events(id, 0)).map(({ message }) => message);
    assert.ok(events.includes("rank 0 lost contact with rank 2"));
    const because = "its connection closed, and its peers have lost contact with it";
    assert.ok(events.includes(`rank 2 (worker w2-name) was lost: ${because}`));
  });

  it("gives a step up that a gang does not come to the end of", async () => {
    await rig().reopen({ boundaryTimeoutMs: 1 });
    const { id, gang } = await training("w0");
    await rig().operator.pause(id);
    const orders = [await gang[0]?.receive("abort"), await gang[0]?.receive("abort")];
    assert.deepEqual(
      orders.map((order) => [order?.atStepBoundary, order?.keepCheckpoint]),
      [
        [true, true],
        [false, true],
      ],
    );
    assert.ok((await eventsOf(id)).includes("stop-overdue"));
  });

  it("cancels at once the second time", async () => {
    const { id, gang } = await training("w0");
    await rig().operator.cancel(id);
    await rig().operator.cancel(id);
    await gang[0]?.receive("abort");
    const { atStepBoundary, keepCheckpoint } = (await gang[0]?.receive("abort")) ?? {};
    assert.deepEqual([atStepBoundary, keepCheckpoint], [false, false]);
  });

  it("is told of stragglers by name", async () => {
    const { id, gang } = await training("w0", "w1");
    for (const [rank, worker] of gang.entries()) {
      worker.times = { ownStepSeconds: 1 + rank * 2, dataSeconds: rank };
    }
    const { stragglers } = await rig().untilExperiment(
      id,
      "with a straggler",
      (experiment) => experiment.stragglers.length > 0,
    );
    const slow = { rank: 1, workerId: "w1", workerName: "w1-name", ratio: 3, phase: "compute" };
    assert.deepEqual(stragglers, [slow]);
    const [event] = (await rig().operator.events(id, 0)).filter(({ type }) => type === "straggler");
    assert.equal(event?.message, "rank 1 (w1-name) takes 3.0 x as long as the others: compute");
    for (const worker of gang) worker.times = { ownStepSeconds: 1, dataSeconds: 0 };
    await rig().untilExperiment(id, "even", (experiment) => experiment.stragglers.length === 0);
  });
});
