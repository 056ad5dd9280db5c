/** What is wrong with a data set, said in one way. */

import { FleetError } from "../../proto/errors.ts";

export type SplitName = "train" | "val";

export function invalidData(split: SplitName, message: string, cause?: unknown): FleetError {
  return new FleetError("DATA_INVALID", `data.${split}: ${message}`, { split }, cause);
}

/** For messages that pass a reason on. */
export function reasonOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
