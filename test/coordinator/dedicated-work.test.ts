import assert from "node:assert/strict";
import type { Experiment, ExperimentEvent } from "../../coordinator/experiment/experiment.ts";
import { step } from "../../coordinator/experiment/experiment-step.ts";
import { whyOver } from "../../coordinator/gang/dedicated-work.ts";
import type { Dedication } from "../../coordinator/member/dedication.ts";
import { newExperiment } from "./experiments.ts";

const PRETRAINED_MS = 100;
const ENDED_MS = 200;

/** Experiment `a` of one worker, which ends its first stage at 100 and its second at 200. */
const fresh = newExperiment({ id: "a", workers: [1, 1] });
const pretrained = finishStage(fresh, 1, PRETRAINED_MS);
const succeeded = finishStage(pretrained, 2, ENDED_MS);
const paused = apply(pretrained, [{ type: "pause" }], PRETRAINED_MS);
const cancelled = apply(fresh, [{ type: "cancel" }], ENDED_MS);

function finishStage(experiment: Experiment, generation: number, now: number): Experiment {
  const ours = { generation, worker: "w" } as const;
  return apply(
    experiment,
    [
      { type: "assigned", generation, gang: ["w"] },
      { type: "result", ...ours, resultJson: "{}" },
    ],
    now,
  );
}

function apply(experiment: Experiment, events: readonly ExperimentEvent[], now: number) {
  return events.reduce((before, event) => step(before, event, now).experiment, experiment);
}

/** Why a worker leaves that is a member since `sinceUnixMs`. */
function why(
  dedication: Omit<Dedication, "leaveWhenOver">,
  experiments: readonly Experiment[],
  sinceUnixMs = 0,
): string | undefined {
  return whyOver(
    { dedication: { ...dedication, leaveWhenOver: true }, sinceUnixMs },
    { find: (id) => experiments.find((one) => one.id === id), all: () => experiments },
  );
}

describe("dedicated work", () => {
  it("of one stage is over with it", () => {
    const dedication = { experimentId: "a", stage: "pretrain" } as const;
    assert.equal(why(dedication, [fresh]), undefined);
    assert.equal(why(dedication, [pretrained]), "pretrain of a is over");
    assert.equal(why({ ...dedication, stage: "linear" }, [pretrained]), undefined);
    assert.equal(why({ ...dedication, stage: "linear" }, [succeeded]), "linear of a is over");
  });

  it("of an experiment is over with its last stage, and with its failure", () => {
    assert.equal(why({ experimentId: "a" }, [pretrained]), undefined);
    assert.equal(why({ experimentId: "a" }, [succeeded]), "a is over");
    assert.equal(why({ experimentId: "a", stage: "linear" }, [cancelled]), "linear of a is over");
  });

  it("is not over while its experiment is paused", () => {
    assert.equal(why({ experimentId: "a", stage: "linear" }, [paused]), undefined);
    assert.equal(why({ stage: "linear" }, [paused]), undefined);
  });

  it("is over when its experiment has no such stage, or is forgotten", () => {
    const onlyLinear = { ...fresh, stages: fresh.stages.slice(1) };
    const dedication = { experimentId: "a", stage: "pretrain" } as const;
    assert.equal(why(dedication, [onlyLinear]), "pretrain of a is over");
    assert.equal(why({ stage: "pretrain" }, [onlyLinear]), undefined);
    assert.equal(why(dedication, []), "pretrain of a is over");
  });

  it("of a stage of any experiment is over with the first that the worker saw end", () => {
    assert.equal(why({ stage: "pretrain" }, [fresh]), undefined);
    assert.equal(why({ stage: "pretrain" }, [pretrained]), "pretrain of a is over");
    assert.equal(why({ stage: "pretrain" }, [succeeded], PRETRAINED_MS + 1), undefined);
    assert.equal(why({ stage: "linear" }, [succeeded], ENDED_MS), "linear of a is over");
    assert.equal(why({ stage: "linear" }, [cancelled]), "linear of a is over");
  });

  it("goes on when the experiment is tried again", () => {
    const retried = apply(cancelled, [{ type: "retry" }], ENDED_MS + 1);
    assert.equal(why({ experimentId: "a" }, [retried]), undefined);
  });

  it("keeps a worker that is not to leave", () => {
    const facts = { dedication: { experimentId: "a", leaveWhenOver: false }, sinceUnixMs: 0 };
    const records = { find: () => succeeded, all: () => [succeeded] };
    assert.equal(whyOver(facts, records), undefined);
    assert.equal(whyOver({ sinceUnixMs: 0 }, records), undefined);
  });
});
