/** How many failures the members of gangs have reported, by error: for monitoring. */

import { ERROR_SPECS, type ErrorCode } from "../../proto/errors.ts";

export interface ReportedFailures {
  /** Since the start, a zero for errors that nobody has met. */
  readonly counts: ReadonlyMap<ErrorCode, number>;
  add(code: ErrorCode): void;
}

export function countFailures(): ReportedFailures {
  const codes = Object.keys(ERROR_SPECS) as ErrorCode[];
  const counts = new Map(codes.map((code) => [code, 0]));
  return { counts, add: (code) => void counts.set(code, (counts.get(code) ?? 0) + 1) };
}
