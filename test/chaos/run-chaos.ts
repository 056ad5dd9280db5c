/**
 * The proof that nothing kills a run: an experiment is run in peace, then again and again under
 * fire, and each must come to the same bits.
 */

import path from "node:path";
import { parseRecipe, type Recipe, type StageName } from "../../proto/recipe.ts";
import { writeImages } from "../support/cluster.ts";
import { Prng } from "../support/prng.ts";
import { isAlive } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { ChaosCluster } from "./chaos-cluster.ts";
import { chaosRecipe, IMAGES } from "./chaos-recipe.ts";
import { checkSamples, readSamples } from "./check-samples.ts";
import { dealFaults } from "./deal-faults.ts";
import type { FaultKind } from "./faults.ts";
import { differences, type RunFacts, readRunFacts } from "./run-facts.ts";
import { calm, type FaultRecord, isOver, type StormOptions, storm } from "./storm.ts";
import { STAGES, submit, TrainingWatch } from "./training-watch.ts";

export interface ChaosOptions {
  readonly seed: number;
  /** World size of the gang. */
  readonly workers: number;
  /** Workers beside it that wait. */
  readonly spares: number;
  readonly coordinators: number;
  readonly engine: string;
  /** Of pre-training. */
  readonly epochs: number;
  /** No fault comes later, or after so many. */
  readonly minutes: number;
  readonly faults: number;
  readonly kinds: readonly FaultKind[];
  /** How often, 0 to 1, two come together. */
  readonly together: number;
  /** Longest recovery. */
  readonly deadlineMs: number;
}

interface ExperimentVerdict {
  readonly id: string;
  readonly state: string;
  readonly faults: number;
  readonly seconds: number;
  /** By recovery. */
  readonly stepsLost: readonly number[];
  readonly problems: readonly string[];
}

export interface ChaosReport {
  readonly seed: number;
  readonly faults: readonly FaultRecord[];
  /** The first one was left in peace. */
  readonly experiments: readonly ExperimentVerdict[];
  /** Beside those of faults and experiments. */
  readonly problems: readonly string[];
}

export interface ChaosSurroundings {
  /** An empty folder that the caller removes. */
  readonly dir: string;
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

/** No single failure may cost more than the step under way. */
const STEPS_LOST_MAX = 1;

/** Of each experiment; the report has them all. */
const PROBLEMS_SAID = 5;

/** Whatever happens, nothing that was started is left. */
export async function runChaos(
  options: ChaosOptions,
  surroundings: ChaosSurroundings,
): Promise<ChaosReport> {
  const { workers, spares, coordinators, engine } = options;
  const size = { coordinators, workers: workers + spares, engine };
  const cluster = new ChaosCluster(surroundings.dir, size);
  // What waits for the cluster must not outlive it.
  const stop = (): void => void cluster.close();
  surroundings.signal.addEventListener("abort", stop, { once: true });
  try {
    const data = path.join(surroundings.dir, "data");
    await writeImages(data, IMAGES);
    await cluster.start();
    surroundings.say(
      `${workers} + ${spares} workers, ${coordinators} coordinator(s) and Redis run`,
    );
    const recipe = parseRecipe(chaosRecipe(data, { ranks: workers, epochs: options.epochs }));
    const report = await new Chaos(cluster, recipe, options, surroundings).run();
    await cluster.close();
    return { ...report, problems: [...cluster.problems, ...(await leftovers(cluster))] };
  } catch (thrown) {
    surroundings.signal.throwIfAborted();
    throw thrown;
  } finally {
    surroundings.signal.removeEventListener("abort", stop);
    await cluster.close();
  }
}

class Chaos {
  readonly #cluster: ChaosCluster;
  readonly #recipe: Recipe;
  readonly #options: ChaosOptions;
  readonly #surroundings: ChaosSurroundings;
  readonly #faults: FaultRecord[] = [];
  readonly #prng: Prng;

  constructor(
    cluster: ChaosCluster,
    recipe: Recipe,
    options: ChaosOptions,
    surroundings: ChaosSurroundings,
  ) {
    this.#cluster = cluster;
    this.#recipe = recipe;
    this.#options = options;
    this.#surroundings = surroundings;
    this.#prng = new Prng(options.seed);
  }

  async run(): Promise<Omit<ChaosReport, "problems">> {
    const { say } = this.#surroundings;
    const reference = await this.#experiment(async (watch) => {
      await this.#untilOver(watch);
    });
    const experiments = [reference.verdict];
    say(`undisturbed: ${reference.verdict.seconds} s`);
    const { minutes, seed, kinds, together, faults: faultsMax } = this.#options;
    const endMs = performance.now() + minutes * 60_000;
    const isEnough = (): boolean =>
      performance.now() > endMs || this.#faultCount() >= faultsMax || this.#isBroken(experiments);
    const deal = dealFaults(kinds, this.#prng, together);
    const next = () => (isEnough() ? undefined : deal.next());
    while (!isEnough()) {
      const { verdict } = await this.#experiment(
        (watch) => this.#storm(watch, { next, onUnfelt: deal.putBack }),
        reference.facts,
      );
      experiments.push(verdict);
      say(`${verdict.id}: ${verdict.state}, ${verdict.faults} faults in ${verdict.seconds} s`);
      for (const problem of verdict.problems.slice(0, PROBLEMS_SAID)) say(`  ${problem}`);
    }
    return { seed, faults: this.#faults, experiments };
  }

  #faultCount(): number {
    return this.#faults.reduce((sum, { kinds }) => sum + kinds.length, 0);
  }

  #isBroken(experiments: readonly ExperimentVerdict[]): boolean {
    const isLost = experiments.some(({ state }) => state !== "succeeded");
    return isLost || this.#faults.some(({ problem }) => problem !== undefined);
  }

  async #storm(
    watch: TrainingWatch,
    dealer: Pick<StormOptions, "next" | "onUnfelt">,
  ): Promise<void> {
    const { deadlineMs } = this.#options;
    const { signal, say } = this.#surroundings;
    const onFault = (record: FaultRecord): void => {
      this.#faults.push(record);
      say(describeFault(record));
    };
    await storm(this.#cluster, watch, { ...dealer, prng: this.#prng, deadlineMs, signal, onFault });
  }

  async #untilOver(watch: TrainingWatch): Promise<string> {
    const { signal } = this.#surroundings;
    const options = { deadlineMs: this.#options.deadlineMs, signal };
    let reached = watch.position();
    for (;;) {
      const account = await calm(this.#cluster, watch, options);
      if (isOver(account)) return account.experiment.state;
      const isFurther = () => watch.position().step !== reached.step;
      await until(
        "the next step",
        async () => {
          signal.throwIfAborted();
          const now = await watch.account();
          return (now && isOver(now)) || isFurther();
        },
        options.deadlineMs,
      );
      reached = watch.position();
    }
  }

  async #experiment(
    during: (watch: TrainingWatch) => Promise<void>,
    expected?: RunFacts,
  ): Promise<{ readonly verdict: ExperimentVerdict; readonly facts: RunFacts }> {
    const started = performance.now();
    const faultsBefore = this.#faultCount();
    const id = await submit(this.#cluster, this.#recipe);
    const watch = new TrainingWatch(this.#cluster, id);
    await during(watch);
    const isLost = this.#faults.some(({ problem }) => problem !== undefined);
    const state = isLost ? "given up" : await this.#untilOver(watch);
    const faults = this.#faultCount() - faultsBefore;
    const seconds = Number(((performance.now() - started) / 1000).toFixed(1));
    const verdict = { id, state, faults, seconds };
    if (state !== "succeeded") {
      const facts = { weights: new Map(), scalars: new Map() };
      return { verdict: { ...verdict, stepsLost: [], problems: [`it is ${state}`] }, facts };
    }
    const folder = path.join(this.#cluster.workDir, id);
    const facts = readRunFacts(folder);
    const samples = STAGES.map((stage) => this.#checkSamples(folder, stage));
    const stepsLost = samples.flatMap((sample) => sample.stepsLost);
    const problems = [
      ...(expected ? differences(facts, expected) : []),
      ...samples.flatMap((sample) => sample.problems),
      ...stepsLost.filter((lost) => lost > STEPS_LOST_MAX).map((lost) => `${lost} steps were lost`),
    ];
    return { verdict: { ...verdict, stepsLost, problems }, facts };
  }

  #checkSamples(folder: string, stage: StageName) {
    const { [stage]: own, seed } = this.#recipe;
    return checkSamples(readSamples(path.join(folder, stage)), {
      count: 2 * IMAGES.train,
      seed,
      epochs: own.epochs,
      ranks: own.workers,
      batchPerWorker: own.batchPerWorker,
    });
  }
}

function describeFault(record: FaultRecord): string {
  const { kinds, at, what, stepSeconds, wholeSeconds, problem } = record;
  const where = `${kinds.join(" + ")} at ${at.stage} step ${at.step}`;
  if (problem !== undefined) return `${where}: ${problem}`;
  return `${where}: trains after ${stepSeconds} s, whole after ${wholeSeconds} s (${what})`;
}

/** Processes that still run after everything was ended. */
async function leftovers(cluster: ChaosCluster): Promise<readonly string[]> {
  const isClean = () => cluster.pids.every((pid) => !isAlive(pid));
  await until("all processes to be gone", isClean, 5_000).catch(() => {});
  return cluster.pids.filter(isAlive).map((pid) => `process ${pid} is left`);
}
