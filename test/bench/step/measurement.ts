/** What the bench finds, as its JSON has it. */

import type { OperationProfile } from "../../../worker/engine/engine.ts";
import {
  PHASES,
  type Phase,
  type PhaseSeconds,
  type StepReport,
} from "../../../worker/train/stage-job.ts";
import type { CheckCosts } from "./check-costs.ts";
import type { RankMeasurement } from "./rank-messages.ts";
import type { StepSpec } from "./step-spec.ts";

/** The figures that ours and the peer have in common. */
export interface Figures {
  readonly step_s: number;
  /** Source images of all ranks. */
  readonly images_per_s: number;
  /** Of the largest rank. */
  readonly peak_rss_mb: number;
  /** Of the last step. */
  readonly loss: number;
}

export interface StepMeasurement extends Figures {
  readonly engine: string;
  readonly device: string;
  readonly phases: PhaseSeconds;
  /** Time of a step during which gradients were being all-reduced; absent with one rank. */
  readonly all_reduce_s?: number;
  /** Share of it, 0 to 1, for which the engine did not wait. */
  readonly all_reduce_hidden?: number;
  readonly profile?: readonly ProfileRow[];
  readonly checks?: CheckCosts;
}

/** One kind of operation, per step of rank 0. */
export interface ProfileRow {
  readonly operation: string;
  readonly implementation: string;
  readonly calls_per_step: number;
  readonly ms_per_step: number;
  /** 0 where the engine counts no multiplications. */
  readonly gflops_per_s: number;
  /** Of the mean measured step. */
  readonly share: number;
}

/** One value in the middle, or the mean of two. */
export function median(values: readonly number[]): number {
  return (laterMedian(values) - laterMedian(values.map((value) => -value))) / 2;
}

/** Of two values in the middle the larger, as the peer takes it from its step times. */
export function laterMedian(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

/**
 * The figures of a run.
 *
 * @param reports of rank 0, warm-up included
 */
export function measurementOf(
  spec: StepSpec,
  reports: readonly StepReport[],
  { engine, device, peakRssMb, profile, checks }: RankMeasurement,
): StepMeasurement {
  const measured = reports.slice(spec.warmup);
  const seconds = measured.map(({ stepSeconds }) => stepSeconds);
  const step_s = laterMedian(seconds);
  const reduced = measured.flatMap(({ allReduce }) => (allReduce ? [allReduce] : []));
  return {
    engine,
    device,
    step_s: round(step_s, 6),
    images_per_s: round((spec.batch * spec.world) / step_s, 3),
    peak_rss_mb: round(peakRssMb, 1),
    loss: round(measured.at(-1)?.loss ?? Number.NaN, 6),
    phases: middlePhases(
      measured.map(({ phaseSeconds }) => phaseSeconds),
      laterMedian,
    ),
    ...allReduceFigures(
      reduced.map((each) => each.seconds),
      reduced.map((each) => each.hidden),
    ),
    ...(profile.length > 0 ? { profile: profileRows(profile, seconds) } : {}),
    ...(checks && { checks }),
  };
}

/** Each phase by itself, so that the phases need not add up to the step. */
export function middlePhases(
  runs: readonly PhaseSeconds[],
  middle: (values: readonly number[]) => number,
): PhaseSeconds {
  const of = (phase: Phase) => round(middle(runs.map((seconds) => seconds[phase])), 6);
  return Object.fromEntries(PHASES.map((phase) => [phase, of(phase)])) as Record<Phase, number>;
}

/** Medians, each by itself; nothing where nothing was reduced. */
export function allReduceFigures(
  seconds: readonly number[],
  hidden: readonly number[],
): Pick<StepMeasurement, "all_reduce_s" | "all_reduce_hidden"> {
  if (seconds.length === 0) return {};
  return {
    all_reduce_s: round(median(seconds), 6),
    all_reduce_hidden: round(median(hidden), 4),
  };
}

/**
 * The operations by the time that they took, longest first.
 *
 * @param stepSeconds of the steps that the profile covers
 */
export function profileRows(
  profile: readonly OperationProfile[],
  stepSeconds: readonly number[],
): readonly ProfileRow[] {
  const steps = stepSeconds.length;
  const total = stepSeconds.reduce((sum, seconds) => sum + seconds, 0);
  return profile
    .toSorted((a, b) => b.seconds - a.seconds)
    .map(({ operation, implementation, calls, seconds, flops }) => ({
      operation,
      implementation,
      calls_per_step: round(calls / steps, 2),
      ms_per_step: round((1000 * seconds) / steps, 3),
      gflops_per_s: seconds > 0 ? round(flops / seconds / 1e9, 1) : 0,
      share: round(seconds / total, 4),
    }));
}

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
