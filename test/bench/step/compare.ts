/** Ours and the peer in turn, so that what else the machine does hits both. */

import { type Figures, median, middlePhases, round, type StepMeasurement } from "./measurement.ts";

export interface Round {
  readonly ours: StepMeasurement;
  readonly peer: Figures;
  /** Ours / peer in images per second. */
  readonly ratio: number;
}

export interface Comparison {
  readonly ours: StepMeasurement;
  readonly peer: Figures;
  readonly rounds: readonly Round[];
  /** Median of the rounds' ratios: above 1 ours is the faster one. */
  readonly ratio: number;
  /** Ours / peer: below 1 ours takes less. */
  readonly memory_ratio: number;
}

export interface Sides {
  readonly runOurs: () => Promise<StepMeasurement>;
  readonly runPeer: () => Promise<Figures>;
  readonly onRound: (round: Round) => void;
}

export async function compare(count: number, sides: Sides): Promise<Comparison> {
  const rounds: Round[] = [];
  while (rounds.length < count) {
    const ours = await sides.runOurs();
    const peer = await sides.runPeer();
    const ratio = round(ours.images_per_s / peer.images_per_s, 4);
    rounds.push({ ours, peer, ratio });
    sides.onRound({ ours, peer, ratio });
  }
  return summarise(rounds);
}

/** Medians of the rounds; of memory the peak, of the loss the last. */
export function summarise(rounds: readonly Round[]): Comparison {
  const first = rounds[0]!;
  const ours = rounds.map((each) => each.ours);
  const peer = overall(rounds.map((each) => each.peer));
  const summary = {
    ...first.ours,
    ...overall(ours),
    phases: middlePhases(
      ours.map(({ phases }) => phases),
      median,
    ),
  };
  return {
    ours: summary,
    peer,
    rounds,
    ratio: round(median(rounds.map(({ ratio }) => ratio)), 4),
    memory_ratio: round(summary.peak_rss_mb / peer.peak_rss_mb, 4),
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
