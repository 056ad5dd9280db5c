/** Log lines of a data set that takes long to index. */

import type { Log } from "../../proto/log.ts";
import type { OpenDatasetOptions } from "../data/dataset.ts";
import type { SplitName } from "../data/invalid-data.ts";

/** Between two lines, and before the first one: small data sets are indexed without a word. */
const LINE_MS = 5000;

export function logIndexing(
  log: Log,
  split: SplitName,
): Required<Pick<OpenDatasetOptions, "onProgress" | "onNotKept">> {
  let toldAt = performance.now();
  return {
    onProgress: ({ images, share }) => {
      const now = performance.now();
      if (now - toldAt < LINE_MS) return;
      toldAt = now;
      log.info({ event: "indexing", split, images, percent: Math.floor(100 * share) });
    },
    onNotKept: (because) => {
      const consequence = "the next start makes it again";
      log.warn({ event: "index not kept", split, because, consequence });
    },
  };
}
