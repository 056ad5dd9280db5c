/**
 * The course of a stage's figures, for charts: few enough points to be kept for every experiment,
 * whatever its length. Pure.
 *
 * A full curve loses every second point, and takes points at twice the distance from then on. Its
 * last point is always the newest report. Steps that a restart makes the gang take again replace
 * those that were taken before.
 */

import type { StageName } from "../../proto/recipe.ts";
import type { StageProgress } from "./experiment.ts";

export const CURVE_LENGTH_MAX = 512;

interface AtStep {
  readonly step: number;
}

/** Of one step. */
export interface TrainingPoint extends AtStep {
  readonly loss: number;
  readonly lr: number;
}

/** Accuracies in percent, those that there were. */
export interface QualityPoint extends AtStep {
  readonly knn?: number;
  readonly probe?: number;
  readonly top1?: number;
}

export interface StageCurves {
  readonly training: readonly TrainingPoint[];
  /** A point for each time that the features or the classifier were judged. */
  readonly quality: readonly QualityPoint[];
  /** ln(2N - 1): the loss of a batch whose pairs all look alike. */
  readonly lossBound?: number;
}

export type Curves = Readonly<Partial<Record<StageName, StageCurves>>>;

export function addToCurves(curves: Curves, progress: StageProgress): Curves {
  const { stage, step, loss, lr, lossBound } = progress;
  const { training, quality } = curves[stage] ?? { training: [], quality: [] };
  const next: StageCurves = {
    training: addPoint(training, { step, loss, lr }),
    quality: addQuality(withoutStepsFrom(quality, step), progress),
    ...(lossBound === undefined ? {} : { lossBound }),
  };
  return { ...curves, [stage]: next };
}

/** Reports repeat the latest accuracies until there are others. */
function addQuality(
  curve: readonly QualityPoint[],
  { step, knn, probeTop1: probe, top1 }: StageProgress,
): readonly QualityPoint[] {
  const nearest = knn?.[0]?.top1;
  const point: QualityPoint = {
    step,
    ...(nearest === undefined ? {} : { knn: nearest }),
    ...(probe === undefined ? {} : { probe }),
    ...(top1 === undefined ? {} : { top1 }),
  };
  const last = curve.at(-1);
  const isNews = last?.knn !== nearest || last?.probe !== probe || last?.top1 !== top1;
  return isNews ? addPoint(curve, point) : curve;
}

/** What has to be put behind the first `keep` points of a curve to make it another one. */
export interface CurveChange<Point> {
  readonly keep: number;
  readonly points: readonly Point[];
}

/** How `before` became `after`, of which it shares points; undefined when it is the same. */
export function curveChange<Point>(
  before: readonly Point[],
  after: readonly Point[],
): CurveChange<Point> | undefined {
  if (before === after) return undefined;
  const differing = after.findIndex((point, index) => point !== before[index]);
  const keep = differing < 0 ? after.length : differing;
  if (keep === before.length && keep === after.length) return undefined;
  return { keep, points: after.slice(keep) };
}

export function changeCurve<Point>(
  before: readonly Point[],
  { keep, points }: CurveChange<Point>,
): readonly Point[] {
  return [...before.slice(0, keep), ...points];
}

/** The curve with one more point, which is the newest. */
export function addPoint<Point extends AtStep>(
  curve: readonly Point[],
  point: Point,
): readonly Point[] {
  const kept = withoutStepsFrom(curve, point.step);
  const next = [...(isLastTooNear(kept) ? kept.slice(0, -1) : kept), point];
  return next.length <= CURVE_LENGTH_MAX ? next : next.filter((_, index) => index % 2 === 0);
}

/** Whether, in a curve that was thinned, the last point is nearer to its neighbour than others. */
function isLastTooNear(curve: readonly AtStep[]): boolean {
  if (curve.length <= CURVE_LENGTH_MAX / 2) return false;
  const gap = (index: number): number => (curve[index]?.step ?? 0) - (curve[index - 1]?.step ?? 0);
  const last = gap(curve.length - 1);
  for (let index = 1; index < curve.length - 1; index++) if (gap(index) <= last) return false;
  return true;
}

function withoutStepsFrom<Point extends AtStep>(
  curve: readonly Point[],
  step: number,
): readonly Point[] {
  const last = curve.at(-1);
  return last === undefined || last.step < step ? curve : curve.filter((one) => one.step < step);
}
