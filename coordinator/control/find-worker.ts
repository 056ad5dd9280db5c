/** Finds the worker that an operator means. */

import { FleetError } from "../../proto/errors.ts";
import type { Member } from "../member/member.ts";

/** So many are named when several fit. */
const NAMED_MAX = 5;

/**
 * The one worker with this id, whose id begins so, or of this name, lost ones left out.
 *
 * @throws {FleetError} NOT_FOUND, USAGE when several fit
 */
export function findWorker(members: readonly Member[], text: string): Member {
  const living = members.filter(({ status }) => status !== "lost");
  const exact = living.find(({ facts }) => facts.id === text);
  const named = living.filter(({ facts }) => facts.name === text);
  const begun = living.filter(({ facts }) => text !== "" && facts.id.startsWith(text));
  const found = exact ? [exact] : named.length > 0 ? named : begun;
  const [one, ...others] = found;
  if (!one) throw new FleetError("NOT_FOUND", `there is no worker ${text}`);
  if (others.length === 0) return one;
  const ids = found.slice(0, NAMED_MAX).map(({ facts }) => facts.id);
  const more = found.length > NAMED_MAX ? ", ..." : "";
  throw new FleetError(
    "USAGE",
    `${text} fits ${found.length} workers: ${ids.join(", ")}${more}; give an id`,
  );
}
