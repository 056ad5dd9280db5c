/** What holds for a simulated fleet at every moment, whatever happens to it. */

import assert from "node:assert/strict";
import { type Experiment, holdersOf } from "../../coordinator/experiment/experiment.ts";
import { historyOf } from "../../coordinator/experiment/timeline.ts";
import { type Dedication, mayTake } from "../../coordinator/member/dedication.ts";
import type { Member } from "../../coordinator/member/member.ts";
import type { SimulatedTraining } from "./simulated-training.ts";

/** Two leases of the simulated fleet. */
const GROWTH_DELAY_MS = 10_000;
/** Beyond the delay that is wanted, for messages under way. */
const GROWTH_SLACK_MS = 5_000;

interface FleetView {
  readonly experiments: readonly Experiment[];
  readonly members: readonly Member[];
  /** Of every dedicated worker that ever was. */
  readonly dedications: ReadonlyMap<string, Dedication>;
  readonly nowMs: number;
  /** Whether there are no faults any more. */
  readonly isCalm: boolean;
}

export class FleetInvariants {
  readonly #training: SimulatedTraining;
  /** Since when each experiment could have grown. */
  readonly #couldGrowSinceMs = new Map<string, number>();

  constructor(training: SimulatedTraining) {
    this.#training = training;
  }

  check(fleet: FleetView): void {
    const held = fleet.experiments.flatMap((experiment) => [...holdersOf(experiment).keys()]);
    assert.equal(new Set(held).size, held.length, "a worker is in two gangs");
    for (const experiment of fleet.experiments) {
      this.#checkGang(experiment, fleet.members);
      checkDedications(experiment, fleet.dedications);
      this.#checkResults(experiment);
      checkPatience(experiment);
      this.#checkGrowth(experiment, fleet);
    }
  }

  /** A gang is who was assigned, of a size that it may have, and holds nothing else. */
  #checkGang({ id, generation, phase, stages, stageIndex }: Experiment, members: FleetMembers) {
    if (!("gang" in phase)) return;
    const gang = this.#training.assigned.get(generation);
    assert.ok(gang, `${id}: nobody was ever assigned generation ${generation}`);
    assert.deepEqual([...gang.values()], phase.gang, `${id}: its gang is not who was assigned`);
    assert.ok(stages[stageIndex]?.sizes.includes(gang.size), `${id}: torn gang`);
    for (const member of members) {
      if (member.status !== "busy" || member.assignment.experimentId !== id) continue;
      const { generation: held, rank } = member.assignment;
      // Without a rank it is a worker that came back with what is told to stop.
      const isOurs = held === generation || rank === undefined;
      assert.ok(isOurs, `${id}: ${generation} formed while ${member.facts.id} was in ${held}`);
    }
  }

  /** Some generation was finished by all of its ranks, for each stage that has ended. */
  #checkResults({ id, timeline }: Experiment): void {
    for (const { from, to, generation } of historyOf(timeline)) {
      if (from !== "running" || (to !== "waiting" && to !== "succeeded")) continue;
      const done = this.#training.finishedCount(generation);
      assert.equal(done, this.#training.assigned.get(generation)?.size, `${id}: early end`);
    }
  }

  /** Without faults no gang that could grow, with workers in reach, stays small for long. */
  #checkGrowth({ id, phase, stages, stageIndex }: Experiment, fleet: FleetView): void {
    const { experiments, members, nowMs, isCalm } = fleet;
    const stage = stages[stageIndex]?.name ?? "pretrain";
    const idle = members.filter(
      ({ status, facts }) =>
        status === "idle" &&
        !this.#training.missed.has(facts.id) &&
        mayTake(facts.dedication, { experimentId: id, stage }),
    ).length;
    const isSomeoneWaiting = experiments.some((one) => one.phase.status === "waiting");
    const isAway = (worker: string): boolean =>
      members.some((one) => one.facts.id === worker && one.status === "busy" && !one.isConnected);
    const isWhole =
      phase.status === "running" && phase.finished.length === 0 && !phase.gang.some(isAway);
    const size = isWhole ? phase.gang.length : Number.POSITIVE_INFINITY;
    const couldGrow =
      !isSomeoneWaiting &&
      stages[stageIndex]?.sizes.some((one) => size < one && one <= size + idle);
    const sinceMs = couldGrow ? (this.#couldGrowSinceMs.get(id) ?? nowMs) : nowMs;
    this.#couldGrowSinceMs.set(id, sinceMs);
    const isOverdue = isCalm && nowMs - sinceMs > GROWTH_DELAY_MS + GROWTH_SLACK_MS;
    assert.ok(!isOverdue, `${id} runs on ${size} workers beside ${idle} idle ones`);
  }
}

/** A dedicated worker never holds other work. */
function checkDedications(
  { id, stages, stageIndex, phase }: Experiment,
  dedications: FleetView["dedications"],
): void {
  for (const worker of "gang" in phase ? phase.gang : []) {
    const { experimentId, stage } = dedications.get(worker) ?? {};
    const present = stages[stageIndex]?.name;
    assert.equal(experimentId ?? id, id, `${worker} of ${experimentId} is in a gang of ${id}`);
    assert.equal(stage ?? present, present, `${id}: ${worker} is for ${stage} only`);
  }
}

type FleetMembers = FleetView["members"];

/** No gang is stopped to grow before it has run for as long as workers have to be there. */
function checkPatience({ id, timeline }: Experiment): void {
  const history = historyOf(timeline);
  for (const { message, generation, to, unixMs } of history) {
    if (to !== "stopping" || !message.startsWith("grows")) continue;
    const ran = history.find((one) => one.generation === generation && one.to === "running");
    assert.ok(ran, `${id}: ${generation} was stopped to grow before it took a step`);
    const ranMs = unixMs - ran.unixMs;
    assert.ok(ranMs >= GROWTH_DELAY_MS, `${id}: ${generation} grew after ${ranMs} ms`);
  }
}
