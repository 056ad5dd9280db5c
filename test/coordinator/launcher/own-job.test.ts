import assert from "node:assert/strict";
import type { V1Job, V1JobStatus } from "@kubernetes/client-node";
import { jobName, jobSelector, markJob, toOwnJob } from "../../../coordinator/launcher/own-job.ts";

const rendered: V1Job = {
  metadata: { name: "a-1-linear", uid: "uid", labels: { "simclr-fleet/stage": "linear" } },
  spec: { template: {}, completions: 4, ttlSecondsAfterFinished: 60 },
};
const mark = { experimentId: "a-1", attempt: 2, epoch: 7, instance: "our fleet" };

function withStatus(status: V1JobStatus): ReturnType<typeof toOwnJob> {
  return toOwnJob({ ...markJob(rendered, mark), status });
}

const condition = (type: string, status = "True") => ({
  ...{ type, status, reason: "PodFailurePolicy" },
  message: "Container worker failed with exit code 15",
});

describe("own Job", () => {
  it("is known again by its marks, and others are not", () => {
    const own = toOwnJob(markJob(rendered, mark));
    assert.deepEqual(
      [own?.experimentId, own?.stage, own?.attempt, own?.epoch, own?.workers],
      ["a-1", "linear", 2, 7, 4],
    );
    assert.equal(toOwnJob(rendered), undefined);
    const labels = markJob(rendered, mark).metadata?.labels ?? {};
    for (const part of jobSelector("our fleet").split(",")) {
      const [label = "", value] = part.split("=");
      assert.equal(labels[label], value);
    }
    assert.equal(labels["app.kubernetes.io/instance"], "our_fleet");
  });

  it("stays when it has ended, since its failures are counted", () => {
    assert.equal(markJob(rendered, mark).spec?.ttlSecondsAfterFinished, undefined);
  });

  it("has the workers that have not left it for good", () => {
    assert.equal(withStatus({ active: 4 })?.workers, 4);
    assert.equal(withStatus({ active: 3, succeeded: 1 })?.workers, 3);
    assert.equal(withStatus({ active: 1, failedIndexes: "0,2-3" })?.workers, 1);
    assert.equal(withStatus({ conditions: [condition("Complete")] })?.workers, 0);
    assert.equal(withStatus({ conditions: [condition("Failed")] })?.workers, 0);
    assert.equal(withStatus({ conditions: [condition("Failed", "False")] })?.workers, 4);
  });

  it("says why it has failed", () => {
    const told = "PodFailurePolicy: Container worker failed with exit code 15";
    assert.equal(withStatus({ conditions: [condition("FailureTarget")] })?.failure, told);
    assert.match(withStatus({ failedIndexes: "1" })?.failure ?? "", /^1 of its workers failed/);
    assert.equal(withStatus({ conditions: [condition("Complete")] })?.failure, undefined);
  });

  it("has a name of its own that leaves room for the index of a pod", () => {
    assert.equal(jobName("photos-3f2a9c", "pretrain", 1), "photos-3f2a9c-pretrain");
    assert.equal(jobName("photos-3f2a9c", "pretrain", 2), "photos-3f2a9c-pretrain-2");
    assert.equal(jobName("2024-123456", "linear", 1), "e-2024-123456-linear");
    const long = `${"x".repeat(90)}-3f2a9c`;
    const name = jobName(long, "pretrain", 99);
    assert.match(name, /^x+-3f2a9c-pretrain-99$/);
    assert.ok(`${name}-1000`.length <= 63);
  });
});
