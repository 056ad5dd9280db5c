/** Workers that take some work only, over real gRPC. */

import assert from "node:assert/strict";
import { useRig } from "./coordinator-rig.ts";
import { type FakeWorker, STAGES } from "./fake-worker.ts";

describe("dedicated worker", function () {
  this.timeout(20_000);
  const rig = useRig();

  const dedicatedTo = (experimentId: string, stage: keyof typeof STAGES | "any") => ({
    dedication: {
      experimentId,
      stage: stage === "any" ? ("STAGE_UNSPECIFIED" as const) : STAGES[stage],
      leaveWhenOver: true,
    },
  });

  const dismissal = async (worker: FakeWorker): Promise<string> =>
    (await worker.receive("dismiss")).because;

  it("is sent away with its stage, while the one of the next stage takes over", async () => {
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    const linear = await rig().join("w0", dedicatedTo(id, "linear"));
    const reason = `waits for 1 worker: none is connected; 1 is dedicated to linear of ${id}`;
    await rig().untilExperiment(id, "without a worker", (one) => one.reason === reason);

    const pretrain = await rig().join("w1", dedicatedTo(id, "pretrain"));
    const spare = await rig().join("w2", dedicatedTo("", "pretrain"));
    assert.equal((await pretrain.accept()).stage, STAGES.pretrain);
    const workers = await rig().operator.workers();
    assert.deepEqual(
      workers.map(({ workerId, dedication }) => [workerId, dedication?.experimentId]),
      [
        ["w0", id],
        ["w1", id],
        ["w2", ""],
      ],
    );

    pretrain.finish(0, "{}");
    assert.equal((await linear.accept()).stage, STAGES.linear);
    assert.equal(await dismissal(pretrain), `pretrain of ${id} is over`);
    assert.equal(await dismissal(spare), `pretrain of ${id} is over`);
    assert.equal(linear.hasReceived("dismiss"), false);
    linear.finish(0, "{}");
    assert.equal(await dismissal(linear), `linear of ${id} is over`);
  });

  it("is sent away at once when it comes too late", async () => {
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    await rig().operator.cancel(id);
    const late = await rig().join("w0", dedicatedTo(id, "any"));
    assert.equal(await dismissal(late), `${id} is over`);
    const any = await rig().join("w1", dedicatedTo("", "pretrain"));
    await rig().restart();
    const back = await rig().join("w1", { ...dedicatedTo("", "pretrain"), memberForMs: 60_000 });
    assert.equal(await dismissal(back), `pretrain of ${id} is over`);
    assert.equal(any.hasReceived("dismiss"), false);
  });

  it("is refused with an experiment that there is not, and with work that never ends", async () => {
    const unknown = await rig().refusal("w0", dedicatedTo("nobody", "any"));
    assert.equal(unknown?.code, "NOT_FOUND");
    assert.match(unknown?.message ?? "", /there is no experiment nobody/);
    const odd = await rig().refusal("w0", dedicatedTo("a b", "any"));
    assert.match(odd?.message ?? "", /dedication\.experiment_id: must be 1 to 100/);
    const endless = await rig().refusal("w0", dedicatedTo("", "any"));
    assert.match(endless?.message ?? "", /leave_when_over: there is always more of any work/);
    assert.deepEqual(await rig().operator.workers(), []);
  });
});
