/** Runs one reference case and says in one line how it went. */

import { FleetError } from "../../proto/errors.ts";
import { type Deviation, Deviations, isWithin } from "./deviations.ts";
import { type GoldenCase, readCase } from "./golden-folder.ts";
import { runAugmentCase } from "./run-augment-case.ts";
import { type EngineUnderTest, runModelCase } from "./run-model-case.ts";
import { runNtXentCase } from "./run-ntxent-case.ts";
import { runSchedulesCase } from "./run-schedules-case.ts";

export interface CaseReport {
  readonly passed: boolean;
  readonly line: string;
}

/** A case that cannot be read or run is one that failed. */
export function runCase(tested: EngineUnderTest, folder: string, name: string): CaseReport {
  let deviations: readonly Deviation[];
  try {
    deviations = deviationsOf(tested, readCase(folder, name));
  } catch (thrown) {
    const { code, message } = FleetError.from(thrown);
    return { passed: false, line: `${name}: fail: ${code}: ${message}` };
  }
  const passed = deviations.length > 0 && deviations.every(isWithin);
  const details = deviations.length > 0 ? deviations.map(describe).join(", ") : "nothing compared";
  return { passed, line: `${name}: ${passed ? "pass" : "fail"}: ${details}` };
}

/** The worst deviation of every quantity of a case. */
export function deviationsOf(tested: EngineUnderTest, golden: GoldenCase): readonly Deviation[] {
  const deviations = new Deviations();
  switch (golden.kind) {
    case "model":
      runModelCase(tested, golden.spec, golden.tensors, deviations);
      break;
    case "ntxent":
      runNtXentCase(tested.engine, golden.spec, golden.tensors, deviations);
      break;
    case "schedules":
      runSchedulesCase(golden.spec, deviations);
      break;
    case "augment":
      runAugmentCase(golden.spec, golden.tensors, deviations);
      break;
  }
  return deviations.list();
}

function describe(deviation: Deviation): string {
  const { quantity, error, tolerance, noise, where } = deviation;
  const figures = `${quantity} ${short(error)}`;
  if (!isWithin(deviation)) return `${figures} > ${short(tolerance)} (${where})`;
  return noise === undefined ? figures : `${figures} (noise ${short(noise)}, ${where})`;
}

function short(value: number): string {
  return value === 0 ? "0" : value.toExponential(1);
}
