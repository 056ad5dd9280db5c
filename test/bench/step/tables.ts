/** The bench's findings for people. */

import { PHASES } from "../../../worker/train/stage-job.ts";
import type { Comparison, Measured, Round, Sides } from "./compare.ts";
import type { Figures, ProfileRow, StepMeasurement } from "./measurement.ts";
import { CHECKSUM_EVERY_STEPS, type StepSpec } from "./step-spec.ts";

export function stepTable(spec: StepSpec, found: StepMeasurement): string {
  const { step_s, images_per_s, peak_rss_mb, loss } = found;
  return aligned([
    ...head(spec, found),
    ["step", `${seconds(step_s)} (${phases(found)})`],
    ...allReduce(found),
    ["rate", `${images_per_s} images/s`],
    ["memory", `${peak_rss_mb} MB, the largest rank's peak`],
    ["loss", String(loss)],
    ...checkRows(found),
  ]);
}

export function comparisonTable(spec: StepSpec, found: Comparison): string {
  const { ours, alone, ratio, memory_ratio, scaling, rounds } = found;
  const ratios = rounds.flatMap((each) => (each.ratio === undefined ? [] : [each.ratio]));
  const scalings = rounds.flatMap((each) => (each.scaling ? [both(each.scaling)] : []));
  return [
    aligned(head(spec, ours)),
    aligned([
      ["", "images/s", "step", "peak MB", "loss"],
      ...sides(found, ""),
      ...(alone ? sides(alone, ", 1 rank") : []),
      ...(ratio === undefined ? [] : [["ours/peer", String(ratio), "", String(memory_ratio), ""]]),
    ]),
    aligned([
      ...(ratios.length > 0 ? [["rounds", ratios.join(", ")]] : []),
      ...(scaling ? [["scaling", `${both(scaling)}: step of ${spec.world} ranks / of 1`]] : []),
      ...(scalings.length > 0 ? [["  rounds", scalings.join("; ")]] : []),
      ["our step", phases(ours)],
      ...allReduce(ours),
    ]),
  ].join("\n\n");
}

/** A round of a comparison, e.g. "ours 2.5, peer 1.8 images/s, ratio 1.39". */
export function roundLine({ ours, peer, ratio, scaling }: Round): string {
  const rates = { ours: ours.images_per_s, ...(peer && { peer: peer.images_per_s }) };
  return [
    `${both(rates)} images/s`,
    ...(ratio === undefined ? [] : [`ratio ${ratio}`]),
    ...(scaling ? [`scaling ${both(scaling)}`] : []),
  ].join(", ");
}

export function profileTable({ profile = [] }: StepMeasurement): string {
  const covered = profile.reduce((sum, { share }) => sum + share, 0);
  return aligned([
    ["share", "ms/step", "calls", "GFLOP/s", "operation", "implementation"],
    ...profile.map(profileCells),
    [percent(1 - covered), "", "", "", "outside the engine's operations", ""],
  ]);
}

function head(spec: StepSpec, { engine, device }: StepMeasurement): string[][] {
  const { arch, stem, size, precision, world, batch, threads, syncBn, steps, warmup } = spec;
  const norm = syncBn ? "synchronised" : "local";
  return [
    ["engine", `${engine} (${device})`],
    ["network", `${arch}, ${stem} stem, ${size} pixels, ${precision}, ${norm} batch norm`],
    ["batch", `${world} x ${batch} images, ${threads} thread(s) each`],
    ["steps", `median of ${steps} after ${warmup}`],
  ];
}

function sides({ ours, peer }: Measured, suffix: string): string[][] {
  return [[`ours${suffix}`, ...cells(ours)], ...(peer ? [[`peer${suffix}`, ...cells(peer)]] : [])];
}

/** e.g. "ours 1.05, peer 1.21" */
function both({ ours, peer }: Sides<number, number>): string {
  return peer === undefined ? `ours ${ours}` : `ours ${ours}, peer ${peer}`;
}

function allReduce({ all_reduce_s, all_reduce_hidden }: StepMeasurement): string[][] {
  if (all_reduce_s === undefined || all_reduce_hidden === undefined) return [];
  return [["all-reduce", `${seconds(all_reduce_s)}, ${percent(all_reduce_hidden)} hidden`]];
}

function checkRows({ checks }: StepMeasurement): string[][] {
  if (!checks) return [];
  const { step_s, numbers_s, replicas_s, numbers_ratio, overhead } = checks;
  return [
    ["no checks", `${seconds(step_s)}`],
    ["numbers", `${milliseconds(numbers_s)} a step; steps with / without ${numbers_ratio}`],
    ["replicas", `${milliseconds(replicas_s)} a comparison, every ${CHECKSUM_EVERY_STEPS} steps`],
    ["overhead", `${(100 * overhead).toFixed(3)} % of the step`],
  ];
}

function cells({ images_per_s, step_s, peak_rss_mb, loss }: Figures): string[] {
  return [String(images_per_s), seconds(step_s), String(peak_rss_mb), String(loss)];
}

function phases(found: StepMeasurement): string {
  return PHASES.map((phase) => `${phase} ${seconds(found.phases[phase])}`).join(", ");
}

function profileCells(row: ProfileRow): string[] {
  return [
    percent(row.share),
    row.ms_per_step.toFixed(2),
    String(row.calls_per_step),
    row.gflops_per_s > 0 ? row.gflops_per_s.toFixed(1) : "",
    row.operation,
    row.implementation,
  ];
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

function milliseconds(value: number): string {
  return `${(1000 * value).toFixed(1)} ms`;
}

function seconds(value: number): string {
  return `${value.toFixed(3)} s`;
}

function aligned(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
