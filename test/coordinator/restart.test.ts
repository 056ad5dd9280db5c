/** A coordinator that was started again, and the workers that its predecessor has left at work. */

import assert from "node:assert/strict";
import { useRig } from "./coordinator-rig.ts";
import { type FakeWorker, STAGES } from "./fake-worker.ts";

describe("coordinator that was started again", function () {
  this.timeout(30_000);
  const rig = useRig();

  /** Three workers that train the pretrain stage of an experiment. */
  async function training(): Promise<{ id: string; gang: FakeWorker[] }> {
    const gang = await rig().joinAll("w0", "w1", "w2");
    const id = await rig().submit({ pretrain: 3, linear: 2 });
    await Promise.all(gang.map((worker) => worker.accept()));
    gang[0]?.progress(1);
    await rig().untilState(id, "running");
    return { id, gang };
  }

  const obeyAll = (gang: readonly FakeWorker[]) =>
    Promise.all(gang.map((worker, rank) => worker.obey(rank)));

  const claims = (gang: readonly FakeWorker[]) => gang.map(({ id, running }) => ({ id, running }));

  it("takes a gang over that is still training", async () => {
    const { id, gang } = await training();
    const held = claims(gang);
    await rig().restart();
    const back = await Promise.all(held.map((one) => rig().join(one.id, one)));
    back[0]?.progress(8);
    const { restarts, state } = await rig().untilExperiment(
      id,
      "at step 8",
      ({ progress }) => progress?.step === 8,
    );
    assert.deepEqual([restarts, state], [0, "EXPERIMENT_STATE_RUNNING"]);
    for (const [rank, worker] of back.entries()) worker.finish(rank, "{}");
    const [assignment] = await Promise.all(back.slice(0, 2).map((worker) => worker.accept()));
    assert.equal(assignment?.stage, STAGES.linear);
  });

  it("takes a gang over that was only forming", async () => {
    const gang = await rig().joinAll("w0", "w1");
    const id = await rig().submit({ pretrain: 2, linear: 1 });
    await Promise.all(gang.map((worker) => worker.accept()));
    const held = claims(gang);
    await rig().restart();
    const back = await Promise.all(held.map((one) => rig().join(one.id, one)));
    back[0]?.progress(1);
    assert.equal((await rig().untilState(id, "running")).restarts, 0);
  });

  it("forms the gang anew at once when an assignment was lost with it", async () => {
    const gang = await rig().joinAll("w0", "w1");
    const id = await rig().submit({ pretrain: 2, linear: 1 });
    const { generation } = (await Promise.all(gang.map((worker) => worker.accept())))[0]!;
    const [held] = claims(gang);
    await rig().restart();
    const back = await Promise.all([rig().join("w0", held), rig().join("w1")]);
    await back[0].obey(0);
    const again = await Promise.all(back.map((worker) => worker.accept()));
    assert.ok(again.every((next) => next.experimentId === id && next.generation > generation));
  });

  it("takes a result that was under way, and one that is said again", async () => {
    const { id, gang } = await training();
    const held = claims(gang);
    gang[0]?.finish(0, '{"loss_last":1.5}');
    await rig().untilExperiment(id, "has one", ({ reason }) => /^1 of 3 ranks/.test(reason));
    await rig().restart();
    // Rank 0's result was received, that of rank 1 was not, and rank 2 is still at work.
    const back = await Promise.all(held.map((one) => rig().join(one.id, one)));
    for (const rank of [0, 1]) back[rank]?.finish(rank, '{"loss_last":1.5}');
    await rig().untilExperiment(id, "has two", ({ reason }) => /^2 of 3 ranks/.test(reason));
    back[2]?.finish(2);
    const linear = await Promise.all(back.slice(0, 2).map((worker) => worker.accept()));
    assert.deepEqual(
      linear.map(({ stage }) => stage),
      [STAGES.linear, STAGES.linear],
    );
    const { restarts, pretrainResultJson } = await rig().operator.get(id);
    assert.deepEqual([restarts, pretrainResultJson], [0, '{"loss_last":1.5}']);
  });

  it("waits for the members of a gang that was stopping", async () => {
    const { id, gang } = await training();
    gang[2]?.leave(2, "a peer was lost");
    await gang[0]?.receive("abort");
    const held = claims(gang.slice(0, 2));
    await rig().restart();
    const back = await Promise.all(held.map((one) => rig().join(one.id, one)));
    const spare = await rig().join("w2");
    await obeyAll(back);
    const next = await Promise.all([...back, spare].map((worker) => worker.accept()));
    assert.ok(next.every(({ experimentId }) => experimentId === id));
    assert.equal((await rig().operator.get(id)).restarts, 1);
  });

  it("forms a new generation when a member does not come back", async () => {
    const { id, gang } = await training();
    const held = claims(gang);
    const { generation } = await rig().operator.get(id);
    await rig().restart();
    const back = await Promise.all(held.slice(0, 2).map((one) => rig().join(one.id, one)));
    await rig().join("spare");
    await obeyAll(back);
    const again = await rig().untilState(id, "forming");
    assert.ok(again.generation > generation);
    assert.deepEqual(again.workerIds, ["w0", "w1", "spare"]);
  });

  it("still has what waits, with its priority", async () => {
    const low = await rig().submit({ pretrain: 1, linear: 1 }, { priority: -1 });
    const high = await rig().submit({ pretrain: 1, linear: 1 }, { priority: 1 });
    await rig().restart();
    const worker = await rig().join("w0");
    const { experimentId } = await worker.accept();
    assert.equal(experimentId, high);
    assert.equal((await rig().operator.get(low)).priority, -1);
  });
});
