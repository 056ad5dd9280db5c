import type { FleetError } from "../../proto/errors.ts";

/** Whom the gang has lost, in this worker's or a peer's words; not who has stopped by itself. */
export function lostRanksOf({ code, detail }: FleetError): number[] {
  if (code !== "GENERATION_ABORTED" || "cause" in detail) return [];
  const ranks = detail["ranks"] ?? detail["rank"];
  return ranks === undefined ? [] : String(ranks).split(",").map(Number);
}
