/** An experiment as Redis keeps it: a record, and apart what changes more or less often. */

import type { Curves, QualityPoint, StageCurves, TrainingPoint } from "../experiment/curves.ts";
import type { Experiment } from "../experiment/experiment.ts";
import { upgradeRecord } from "../experiment/upgrade-record.ts";

const RECORD_VERSION = 2;

/** What Redis has of an experiment, under a key each; null where it has nothing. */
export interface KeptTexts {
  readonly record: string;
  readonly timeline: string | null;
  readonly curves: string | null;
}

export function writeRecord({ timeline: _, curves: __, ...experiment }: Experiment): string {
  return JSON.stringify({ version: RECORD_VERSION, experiment });
}

/** Undefined for the record of a later version, which nobody here could read safely. */
export function readRecord({ record, timeline, curves }: KeptTexts): Experiment | undefined {
  try {
    const { version, experiment } = JSON.parse(record);
    if (version === 1) return upgradeRecord(experiment);
    if (version !== RECORD_VERSION) return undefined;
    const apart = { timeline: JSON.parse(timeline ?? "[]"), curves: readCurves(curves ?? "{}") };
    return { ...experiment, ...apart };
  } catch {
    return undefined;
  }
}

interface KeptCurves {
  /** Step, loss and learning rate of each point. */
  readonly training: readonly (readonly [number, number, number])[];
  readonly quality: readonly QualityPoint[];
  readonly lossBound?: number;
}

/** As rows of numbers, which take a third of the room. */
export function writeCurves(curves: Curves): string {
  const kept = Object.entries(curves).map(([stage, { training, ...rest }]) => {
    const rows = training.map(({ step, loss, lr }) => [step, loss, lr]);
    return [stage, { ...rest, training: rows }];
  });
  return JSON.stringify(Object.fromEntries(kept));
}

function readCurves(text: string): Curves {
  const kept: Readonly<Record<string, KeptCurves>> = JSON.parse(text);
  const curves = Object.entries(kept).map(
    ([stage, { training, ...rest }]): [string, StageCurves] => {
      const points = training.map(([step, loss, lr]): TrainingPoint => ({ step, loss, lr }));
      return [stage, { ...rest, training: points }];
    },
  );
  return Object.fromEntries(curves);
}
