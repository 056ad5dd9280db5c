/**
 * How much of an experiment's time goes into steps that count. Pure.
 *
 * Wall time runs from the forming of the first gang to the end, and stands still while the
 * experiment is paused. Productive are the seconds of steps, as rank 0 measures them: not those of
 * validations, of waiting for workers and of forming gangs. A step that was lost and taken again
 * counts once. What a gang did after its last report, half a second at most, does not count.
 */

export interface Goodput {
  /** What had passed at `sinceUnixMs`, or all of it where that is absent. */
  readonly wallSeconds: number;
  /** Since when wall time runs; absent while it stands still. */
  readonly sinceUnixMs?: number;
  readonly productiveSeconds: number;
  /** The last report that was credited. */
  readonly heard?: TrainingReport;
}

interface TrainingReport {
  readonly generation: number;
  readonly step: number;
  /** Of the steps of the generation so far. */
  readonly trainingSeconds: number;
}

const NOTHING: Goodput = { wallSeconds: 0, productiveSeconds: 0 };

/** Starts or stops the clock of wall time, or leaves it as it is. */
export function runWallTime(
  goodput: Goodput | undefined,
  { runs, now }: { readonly runs: boolean; readonly now: number },
): Goodput | undefined {
  const known = goodput ?? NOTHING;
  const isRunning = known.sinceUnixMs !== undefined;
  if (runs === isRunning) return goodput;
  if (runs) return { ...known, sinceUnixMs: now };
  const { sinceUnixMs: _, ...rest } = known;
  return { ...rest, wallSeconds: wallSecondsAt(known, now) };
}

/** Seconds of wall time until `now`. */
export function wallSecondsAt(
  { wallSeconds, sinceUnixMs }: Pick<Goodput, "wallSeconds" | "sinceUnixMs">,
  now: number,
): number {
  if (sinceUnixMs === undefined) return wallSeconds;
  return wallSeconds + Math.max(0, now - sinceUnixMs) / 1_000;
}

/**
 * Adds what a report of rank 0 tells of steps beyond `furthestStep`. The first report of a
 * generation is of its first step.
 */
export function creditSteps(
  goodput: Goodput,
  report: TrainingReport & { readonly furthestStep: number },
): Goodput {
  const { furthestStep, ...heard } = report;
  const isFirst = goodput.heard?.generation !== heard.generation;
  const last = isFirst ? { step: heard.step - 1, trainingSeconds: 0 } : goodput.heard;
  const steps = heard.step - last.step;
  const isNews = steps > 0 && heard.trainingSeconds >= last.trainingSeconds;
  if (!isNews) return goodput;
  const fresh = Math.min(steps, Math.max(0, heard.step - furthestStep));
  const seconds = ((heard.trainingSeconds - last.trainingSeconds) * fresh) / steps;
  return { ...goodput, productiveSeconds: goodput.productiveSeconds + seconds, heard };
}
