/** One line that shows how far something has come. Pure. */

const BAR_WIDTH_MAX = 30;
const BAR_WIDTH_MIN = 10;

/**
 * A bar that fits into `columns`, e.g. "pretrain [####----]  50%  loss 5.1"; figures that do not
 * fit are left out, the last ones first.
 *
 * @param share 0 to 1
 * @param end stands behind all figures
 */
export function progressBar({
  head,
  share,
  figures,
  columns,
  end = "",
}: {
  readonly head: string;
  readonly share: number;
  readonly figures: readonly string[];
  readonly columns: number;
  readonly end?: string;
}): string {
  const percent = `${String(Math.floor(share * 100)).padStart(3)}%`;
  const shown = [...figures];
  const tail = (): string => [percent, ...shown].join("  ");
  const room = (): number => columns - head.length - tail().length - 5;
  while (shown.length > 0 && room() < BAR_WIDTH_MIN) shown.pop();

  const width = Math.max(BAR_WIDTH_MIN, Math.min(BAR_WIDTH_MAX, room()));
  const filled = Math.round(share * width);
  const bar = "#".repeat(filled) + "-".repeat(width - filled);
  return `${head} [${bar}] ${tail()}${end}`.slice(0, Math.max(columns - 1, BAR_WIDTH_MIN));
}
