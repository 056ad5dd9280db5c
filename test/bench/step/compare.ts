/** Runs that are compared take turns, so that what else the machine does hits all of them. */

import {
  allReduceFigures,
  type Figures,
  median,
  middlePhases,
  round,
  type StepMeasurement,
} from "./measurement.ts";

/** What there may be of either side. */
export interface Sides<Ours, Peer> {
  readonly ours: Ours;
  readonly peer?: Peer;
}

/** Ours and the peer on one task. */
export type Measured = Sides<StepMeasurement, Figures>;

export interface Round extends Measured {
  /** Ours / peer in images per second. */
  readonly ratio?: number;
  /** The same work for each rank, but with a single rank. */
  readonly alone?: Measured;
  /** Step time of all ranks / of a single one. */
  readonly scaling?: Sides<number, number>;
}

/** Medians of the rounds; of memory the peak, of the loss the last. */
export interface Comparison extends Round {
  readonly rounds: readonly Round[];
  /** Ours / peer: below 1 ours takes less. */
  readonly memory_ratio?: number;
}

export interface Runs {
  readonly ours: (world: number) => Promise<StepMeasurement>;
  readonly peer?: (world: number) => Promise<Figures>;
}

export interface CompareOptions {
  readonly world: number;
  /** Measures a single rank, too. */
  readonly scaling: boolean;
  readonly rounds: number;
  readonly onRound: (round: Round) => void;
}

export async function compare(runs: Runs, options: CompareOptions): Promise<Comparison> {
  const { world, scaling, onRound } = options;
  const rounds: Round[] = [];
  while (rounds.length < options.rounds) {
    const ours = await runs.ours(world);
    const oursAlone = scaling ? await runs.ours(1) : undefined;
    const peer = await runs.peer?.(world);
    const peerAlone = scaling ? await runs.peer?.(1) : undefined;
    const alone = oursAlone && { ours: oursAlone, ...(peerAlone && { peer: peerAlone }) };
    const found = roundOf({ ours, ...(peer && { peer }) }, alone);
    rounds.push(found);
    onRound(found);
  }
  return summarise(rounds);
}

function roundOf(all: Measured, alone: Measured | undefined): Round {
  const { ours, peer } = all;
  return {
    ...all,
    ...(peer && { ratio: round(ours.images_per_s / peer.images_per_s, 4) }),
    ...(alone && { alone, scaling: scalingOf(all, alone) }),
  };
}

function scalingOf(all: Measured, alone: Measured): Sides<number, number> {
  const growth = (many: Figures, one: Figures): number => round(many.step_s / one.step_s, 4);
  return {
    ours: growth(all.ours, alone.ours),
    ...(all.peer && alone.peer && { peer: growth(all.peer, alone.peer) }),
  };
}

export function summarise(rounds: readonly Round[]): Comparison {
  const { ours, peer } = overallOf(rounds);
  const alone = present(rounds.map((each) => each.alone));
  const ratios = present(rounds.map(({ ratio }) => ratio));
  const scalings = present(rounds.map(({ scaling }) => scaling));
  return {
    ours,
    ...(peer && { peer, memory_ratio: round(ours.peak_rss_mb / peer.peak_rss_mb, 4) }),
    ...(ratios.length > 0 && { ratio: round(median(ratios), 4) }),
    ...(alone.length > 0 && { alone: overallOf(alone) }),
    ...(scalings.length > 0 && { scaling: middleScaling(scalings) }),
    rounds,
  };
}

function overallOf(runs: readonly Measured[]): Measured {
  const ours = runs.map((each) => each.ours);
  const peer = present(runs.map((each) => each.peer));
  const phases = ours.map((each) => each.phases);
  return {
    ours: {
      ...ours[0]!,
      ...overall(ours),
      phases: middlePhases(phases, median),
      ...allReduceFigures(
        present(ours.map(({ all_reduce_s }) => all_reduce_s)),
        present(ours.map(({ all_reduce_hidden }) => all_reduce_hidden)),
      ),
    },
    ...(peer.length > 0 && { peer: overall(peer) }),
  };
}

function overall(figures: readonly Figures[]): Figures {
  return {
    step_s: round(median(figures.map(({ step_s }) => step_s)), 6),
    images_per_s: round(median(figures.map(({ images_per_s }) => images_per_s)), 3),
    peak_rss_mb: Math.max(...figures.map(({ peak_rss_mb }) => peak_rss_mb)),
    loss: figures.at(-1)!.loss,
  };
}

function middleScaling(scalings: readonly Sides<number, number>[]): Sides<number, number> {
  const peer = present(scalings.map((each) => each.peer));
  return {
    ours: round(median(scalings.map(({ ours }) => ours)), 4),
    ...(peer.length > 0 && { peer: round(median(peer), 4) }),
  };
}

function present<Value>(values: readonly (Value | undefined)[]): Value[] {
  return values.filter((value) => value !== undefined);
}
