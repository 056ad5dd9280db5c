/** One experiment under fire: fault after fault, each once the last one is got over. */

import { setTimeout as delay } from "node:timers/promises";
import type { Prng } from "../support/prng.ts";
import { until } from "../support/until.ts";
import type { ChaosCluster, Worker } from "./chaos-cluster.ts";
import { FAULTS, type FaultKind, type Strike, Unfelt } from "./faults.ts";
import { type Account, isBeyond, type Position, type TrainingWatch } from "./training-watch.ts";

/** Pause between two faults. */
const CALM_MS = { min: 100, max: 2_000 };
/** Between two faults that come together. */
const TOGETHER_MS = { min: 0, max: 2_000 };

/** Pause between two looks at whether the run is over. */
const ASK_MS = 500;

/** What became of a fault, or of two that came together. */
export interface FaultRecord {
  readonly kinds: readonly FaultKind[];
  readonly at: Position;
  /** Who was harmed, and what proves it. */
  readonly what: string;
  /** From the fault to the next step that was applied after it. */
  readonly stepSeconds?: number;
  /** To the coordinator knowing that step, with all workers there. */
  readonly wholeSeconds?: number;
  /** Absent when all is as it was. */
  readonly problem?: string;
}

export interface StormOptions {
  readonly prng: Prng;
  /** What comes next; nothing when there was enough. */
  readonly next: () => readonly FaultKind[] | undefined;
  /** Longest recovery. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  readonly onFault: (record: FaultRecord) => void;
  /** Hears of those that struck when the run was over: they prove nothing. */
  readonly onUnfelt: (kinds: readonly FaultKind[]) => void;
}

/** Goes on until the experiment has ended, or a fault was not got over. */
export async function storm(
  cluster: ChaosCluster,
  watch: TrainingWatch,
  options: StormOptions,
): Promise<void> {
  for (;;) {
    const account = await calm(cluster, watch, options);
    if (isOver(account)) return;
    const kinds = options.next();
    if (!kinds) {
      await delay(200);
      continue;
    }
    await delay(options.prng.int(CALM_MS.min, CALM_MS.max));
    const record = await strikeAll(cluster, watch, kinds, options);
    if (record) options.onFault(record);
    else options.onUnfelt(kinds);
    if (record?.problem !== undefined) return;
  }
}

/** Waits until a whole gang trains and every worker is there, or until the experiment is over. */
export async function calm(
  cluster: ChaosCluster,
  watch: TrainingWatch,
  { deadlineMs, signal }: Pick<StormOptions, "deadlineMs" | "signal">,
): Promise<Account> {
  const isCalm = async (): Promise<Account | undefined> => {
    signal.throwIfAborted();
    const account = await watch.account();
    if (!account || isOver(account)) return account;
    const { experiment, workers } = account;
    const isTraining =
      experiment.state === "running" && watch.position().generation === experiment.generation;
    const isWhole = cluster.workers.every(({ name }) => workers.some((each) => each.name === name));
    return isTraining && isWhole ? account : undefined;
  };
  return await until("the gang to train and all workers to be there", isCalm, deadlineMs);
}

export function isOver({ experiment }: Account): boolean {
  return ["succeeded", "failed", "cancelled"].includes(experiment.state);
}

/** @returns undefined when the run was over before anything was felt */
async function strikeAll(
  cluster: ChaosCluster,
  watch: TrainingWatch,
  kinds: readonly FaultKind[],
  options: StormOptions,
): Promise<FaultRecord | undefined> {
  const started = performance.now();
  let at = watch.position();
  const mends: Promise<string>[] = [];
  try {
    for (const [index, kind] of kinds.entries()) {
      if (index > 0) await delay(options.prng.int(TOGETHER_MS.min, TOGETHER_MS.max));
      const { what, mend } = await strike(cluster, watch, kind, options);
      const proof = mend().then((text) => `${what}: ${text}`);
      // What it says counts once training goes on.
      proof.catch(() => {});
      mends.push(proof);
    }
    const breaksGang = kinds.some((kind) => FAULTS[kind].breaksGang);
    at = breaksGang ? at : watch.position();
    const stepSeconds = await trainsAgain(watch, at, { ...options, breaksGang, started });
    const what = (await Promise.all(mends)).join("; ");
    if (stepSeconds === undefined) return undefined;
    await isKnown(cluster, watch, at, options);
    return { kinds, at, what, stepSeconds, wholeSeconds: seconds(started) };
  } catch (thrown) {
    options.signal.throwIfAborted();
    // The next experiment must find everything mended.
    await Promise.allSettled(mends);
    if (thrown instanceof Unfelt && (await hasSucceeded(watch, options))) return undefined;
    const problem = thrown instanceof Error ? thrown.message : String(thrown);
    return { kinds, at, what: "", problem };
  }
}

/** Waits for a coordinator that answers: there may be none for moments. */
async function hasSucceeded(
  watch: TrainingWatch,
  { deadlineMs, signal }: Pick<StormOptions, "deadlineMs" | "signal">,
): Promise<boolean> {
  const ask = async (): Promise<Account | undefined> => {
    signal.throwIfAborted();
    return await watch.account();
  };
  const { experiment } = await until("a coordinator to answer", ask, deadlineMs);
  return experiment.state === "succeeded";
}

async function strike(
  cluster: ChaosCluster,
  watch: TrainingWatch,
  kind: FaultKind,
  { prng, signal, deadlineMs }: StormOptions,
): Promise<Strike> {
  const worker = await until("a gang", () => memberOf(cluster, watch, prng), deadlineMs);
  signal.throwIfAborted();
  const leader = await watch.leader();
  const coordinator = leader ?? cluster.coordinators[0]!;
  const id = watch.id;
  return await FAULTS[kind].strike({ cluster, id, worker, coordinator, prng, signal });
}

/** One of the workers that others are connected to; undefined while there is no gang. */
async function memberOf(
  cluster: ChaosCluster,
  watch: TrainingWatch,
  prng: Prng,
): Promise<Worker | undefined> {
  const members = cluster.workers.filter(({ peers }) => peers.open > 0);
  if (members.length > 0) return members[prng.int(0, members.length - 1)];
  const account = await watch.account();
  if (account && isOver(account)) throw new Unfelt("the run is over");
  return undefined;
}

/** @returns seconds from `started` to the first step beyond `at`; undefined when there was none */
async function trainsAgain(
  watch: TrainingWatch,
  at: Position,
  options: StormOptions & { readonly breaksGang: boolean; readonly started: number },
): Promise<number | undefined> {
  let asked = performance.now();
  const isAgain = async (): Promise<{ readonly seconds?: number } | undefined> => {
    options.signal.throwIfAborted();
    const now = watch.position();
    const isNewGang = now.generation > at.generation;
    if (isBeyond(now, at) && (isNewGang || !options.breaksGang)) {
      return { seconds: seconds(options.started) };
    }
    if (performance.now() - asked < ASK_MS) return undefined;
    asked = performance.now();
    const account = await watch.account();
    if (account?.experiment.state === "failed") throw new Error(account.experiment.reason);
    return account && isOver(account) ? {} : undefined;
  };
  return (await until("the next step", isAgain, options.deadlineMs)).seconds;
}

/** Waits until the coordinator tells of a step beyond `at`, and all workers are there. */
async function isKnown(
  cluster: ChaosCluster,
  watch: TrainingWatch,
  at: Position,
  options: StormOptions,
): Promise<void> {
  const deadline = performance.now() + options.deadlineMs;
  for (;;) {
    const { experiment } = await calm(cluster, watch, options);
    if (experiment.state === "failed") throw new Error(experiment.reason);
    if (experiment.state === "succeeded") return;
    const { stage, generation, progress } = experiment;
    if (progress && isBeyond({ stage, generation, step: progress.step }, at)) return;
    if (performance.now() > deadline) throw new Error("the coordinator does not hear of progress");
    await delay(50);
  }
}

function seconds(startedMs: number): number {
  return Number(((performance.now() - startedMs) / 1000).toFixed(3));
}
