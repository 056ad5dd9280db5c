/** Figures and tables for people. Pure. */

/** Columns are as wide as their widest cell; the last one may be as long as it likes. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd();
  return `${all.map(line).join("\n")}\n`;
}

/** e.g. 45s, 12m05s, 3h07m, 2d04h. */
export function formatDuration(seconds: number): string {
  const total = Math.max(0, Math.round(seconds));
  const pad = (value: number): string => String(value).padStart(2, "0");
  if (total < 60) return `${total}s`;
  if (total < 3_600) return `${Math.floor(total / 60)}m${pad(total % 60)}s`;
  if (total < 86_400) return `${Math.floor(total / 3_600)}h${pad(Math.floor(total / 60) % 60)}m`;
  return `${Math.floor(total / 86_400)}d${pad(Math.floor(total / 3_600) % 24)}h`;
}

/** A time of day with its date, UTC, to the second. */
export function formatTime(unixMs: number): string {
  return `${new Date(unixMs).toISOString().slice(0, 19)}Z`;
}

/** Four significant digits, without an exponent where that is short enough. */
export function formatFigure(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(3);
  if (size >= 1_000) return value.toFixed(0);
  return value.toPrecision(4);
}

/** As {@link formatFigure}, without zeros at the end: 4.8, 1e-4. */
export function formatShortFigure(value: number): string {
  const [digits, exponent] = formatFigure(value).split("e");
  return `${Number(digits)}${exponent === undefined ? "" : `e${exponent}`}`;
}

/** e.g. 27,968,832. */
export function formatCount(value: number): string {
  return String(value).replaceAll(/\B(?=(\d{3})+$)/g, ",");
}
