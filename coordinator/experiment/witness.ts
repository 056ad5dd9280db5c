/** What the messages of members leave in an experiment's timeline. Pure. */

import type { Experiment, ExperimentEvent, StageProgress } from "./experiment.ts";
import { note } from "./experiment-transition.ts";
import { describe, lostContactsOf, toFailure } from "./failures.ts";

type EventOf<Type> = Extract<ExperimentEvent, { type: Type }>;

/** Writes down how a member ended. */
export function witness(
  experiment: Experiment,
  event: EventOf<"failure" | "left" | "lost">,
  now: number,
): Experiment {
  const gang = "gang" in experiment.phase ? experiment.phase.gang : [];
  const { worker } = event;
  const about = { rank: gang.indexOf(worker), worker, now };
  const message = describe(toFailure(gang, event, now));
  switch (event.type) {
    case "failure":
      return note(experiment, "failure", { ...about, message, step: event.step });
    case "lost":
      return note(experiment, "worker-lost", { ...about, message });
    case "left": {
      const lost = lostContactsOf(gang, event).map(({ of }) => of);
      const ranks = `${lost.length === 1 ? "rank" : "ranks"} ${lost.join(", ")}`;
      const contact = `rank ${about.rank} lost contact with ${ranks}`;
      const seen =
        lost.length === 0
          ? experiment
          : note(experiment, "contact-lost", { ...about, message: contact, step: event.step });
      return witnessCheckpoint(seen, event.checkpointStep, now);
    }
  }
}

/** Writes down what has changed from the report before. */
export function witnessProgress(
  experiment: Experiment,
  progress: StageProgress,
  now: number,
): Experiment {
  const before = experiment.progress;
  const { checkpointStep, storageProblem, step } = progress;
  const seen =
    checkpointStep === before?.checkpointStep
      ? experiment
      : witnessCheckpoint(experiment, checkpointStep, now);
  // Its wording may change with every attempt.
  if ((storageProblem === undefined) === (before?.storageProblem === undefined)) return seen;
  return storageProblem === undefined
    ? note(seen, "storage-problem-over", { message: "the storage works again", step, now })
    : note(seen, "storage-problem", { message: storageProblem, step, now });
}

function witnessCheckpoint(
  experiment: Experiment,
  step: number | undefined,
  now: number,
): Experiment {
  const { timeline, stageIndex, stages } = experiment;
  const newest = timeline.findLast(({ type }) => type === "checkpoint");
  // A member tells so when it is durable, and again when it leaves.
  const isKnown =
    newest && "step" in newest && newest.step === step && newest.stage === stages[stageIndex]?.name;
  if (step === undefined || isKnown) return experiment;
  const { progress } = experiment;
  const reported = progress ? { progress: { ...progress, checkpointStep: step } } : {};
  const message = `step ${step} is durable`;
  return note({ ...experiment, ...reported }, "checkpoint", { message, step, now });
}
