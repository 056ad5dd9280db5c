/**
 * Which ranks of a gang are slower than the others, from what each says of its own part of a step.
 * A rank is named after three reports in a row, and no longer named after three others: one slow
 * step is no news. Pure.
 */

import type { RankTimes } from "../member/member.ts";

/** Reports in a row that it takes to be named, and not to be named any more. */
const REPORTS = 3;
/** A named rank has to come well below what it was named for. */
const OVER = 0.9;

export interface Straggler {
  readonly rank: number;
  /** Its own time of a step, over the median of the others'. */
  readonly ratio: number;
  /** What most of the difference goes to. */
  readonly phase: "data" | "compute";
}

interface RankState {
  readonly times: RankTimes;
  /** Reports in a row that speak against what it is taken for. */
  readonly doubts: number;
  readonly straggler?: Straggler;
}

/** What is known of a gang's ranks, by rank. */
export type RankStates = ReadonlyMap<number, RankState>;

export interface RankReport {
  readonly rank: number;
  readonly times: RankTimes;
  /** How many times slower than the others it has to be. */
  readonly factor: number;
}

/** Adds one report. Only the reporting rank can come to be named, or not to be any more. */
export function hearTimes(ranks: RankStates, { rank, times, factor }: RankReport): RankStates {
  const known = ranks.get(rank);
  const others = [...ranks].flatMap(([other, state]) => (other === rank ? [] : [state.times]));
  const next = new Map(ranks);
  if (others.length === 0) return next.set(rank, { times, doubts: 0 });

  const measured: Straggler = { rank, ...compare(times, others) };
  const isNamed = known?.straggler !== undefined;
  const isDoubted = isNamed ? measured.ratio < OVER * factor : measured.ratio > factor;
  const doubts = isDoubted ? (known?.doubts ?? 0) + 1 : 0;
  const isChanged = doubts >= REPORTS;
  const isStraggler = isNamed !== isChanged;
  return next.set(rank, {
    times,
    doubts: isChanged ? 0 : doubts,
    ...(isStraggler ? { straggler: measured } : {}),
  });
}

function compare(
  own: RankTimes,
  others: readonly RankTimes[],
): { readonly ratio: number; readonly phase: Straggler["phase"] } {
  const usual = median(others.map(({ ownStepSeconds }) => ownStepSeconds));
  const usualData = median(others.map(({ dataSeconds }) => dataSeconds));
  // Steps of no measurable length are equally fast.
  const ratio = usual > 0 ? own.ownStepSeconds / usual : 1;
  const isData = own.dataSeconds - usualData > (own.ownStepSeconds - usual) / 2;
  return { ratio, phase: isData ? "data" : "compute" };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [low = 0, high = low] = sorted.slice(sorted.length % 2 === 0 ? middle - 1 : middle);
  return sorted.length % 2 === 0 ? (low + high) / 2 : low;
}
