/** What came of it, for people. */

import { formatTable } from "../../proto/cli/format.ts";
import type { ChaosReport } from "./run-chaos.ts";
import type { FaultRecord } from "./storm.ts";

const PROBLEMS_SHOWN = 10;

/** Whether nothing at all is off. */
export function isSound({ faults, experiments, problems }: ChaosReport): boolean {
  const isRecovered = faults.every(({ problem }) => problem === undefined);
  const isSame = experiments.every((experiment) => experiment.problems.length === 0);
  return isRecovered && isSame && problems.length === 0 && faults.length > 0;
}

export function table(report: ChaosReport): string {
  const { seed, faults, experiments, problems } = report;
  const kinds = new Set(faults.map(nameOf));
  const rows = [...kinds].sort().map((kind) =>
    row(
      kind,
      faults.filter((record) => nameOf(record) === kind),
    ),
  );
  rows.push(row("any", faults));
  const lost = experiments.flatMap(({ stepsLost }) => stepsLost);
  const wrong = [
    ...problems,
    ...faults.flatMap((fault) => (fault.problem ? [`${nameOf(fault)}: ${fault.problem}`] : [])),
    ...experiments.flatMap(({ id, problems: each }) => shortened(id, each)),
  ];
  const counted = faults.reduce((sum, { kinds }) => sum + kinds.length, 0);
  const verdict = isSound(report)
    ? `PASSED: ${counted} faults, ${experiments.length - 1} experiments bit-identical to the ` +
      `undisturbed one, at most ${Math.max(0, ...lost)} steps lost`
    : `FAILED after ${counted} faults`;
  return [
    formatTable(HEAD, rows),
    ...wrong.map((problem) => `${problem}\n`),
    `${verdict} (seed ${seed})\n`,
  ].join("");
}

/** What is wrong with one run is often wrong with all its steps. */
function shortened(id: string, problems: readonly string[]): readonly string[] {
  const shown = problems.slice(0, PROBLEMS_SHOWN).map((problem) => `${id}: ${problem}`);
  const left = problems.length - shown.length;
  return left > 0 ? [...shown, `${id}: and ${left} more`] : shown;
}

function nameOf({ kinds }: FaultRecord): string {
  return kinds.join(" + ");
}

const HEAD = ["FAULT", "FIRED", "RECOVERED", "STEP AFTER", "WORST", "WHOLE AFTER", "WORST"];

function row(kind: string, records: readonly FaultRecord[]): readonly string[] {
  const figures = (pick: (record: FaultRecord) => number | undefined): string[] => {
    const known = records.flatMap((record) => pick(record) ?? []).sort((a, b) => a - b);
    const median = known[known.length >> 1];
    return [median, known.at(-1)].map((value) =>
      value === undefined ? "-" : `${value.toFixed(1)} s`,
    );
  };
  return [
    kind,
    String(records.length),
    String(records.filter(({ problem }) => problem === undefined).length),
    ...figures(({ stepSeconds }) => stepSeconds),
    ...figures(({ wholeSeconds }) => wholeSeconds),
  ];
}
