/**
 * Which generation a checkpoint store belongs to: the highest that has claimed it.
 *
 * A claim is an empty file named for its generation, `.generation-7`. A rank 0 that was cut off but
 * lives on finds a higher one and changes nothing any more. Contents of one common file would not
 * do: a rank that was stopped between reading and writing it would overwrite a higher number.
 */

import { readdirSync } from "node:fs";
import path from "node:path";
import { discard, flushFolder, writeDurably } from "../../proto/durable-file.ts";
import { FleetError } from "../../proto/errors.ts";
import { makeFolder } from "../../proto/make-folder.ts";

const CLAIM = /^\.generation-(\d+)$/;
/** What a writer has not finished; of which generation, since generations are known. */
const UNFINISHED = /^\.writing-(?:.*-g(\d+)$)?/;

/** Name of the folder that `generation` writes `name` in. */
export function unfinishedName(name: string, generation: number): string {
  return `.writing-${name}-g${generation}`;
}

/**
 * Makes the store if it is not there, claims it for `generation`, and removes what writers of
 * lower ones left unfinished: those may never finish it.
 *
 * @throws {FleetError} GENERATION_ABORTED when a higher generation has claimed it
 * @throws {NodeJS.ErrnoException}
 */
export function claimStore(store: string, generation: number): void {
  makeFolder(store);
  const claims = claimsOf(store);
  assertHighest(store, generation, claims);
  if (!claims.includes(generation)) {
    writeDurably(path.join(store, claimName(generation)), []);
    flushFolder(store);
    // Two may have claimed it at the same time.
    assertOwned(store, generation);
  }
  for (const name of readdirSync(store)) {
    const unfinished = UNFINISHED.exec(name);
    const isLeft = unfinished !== null && Number(unfinished[1] ?? 0) < generation;
    const claim = Number(CLAIM.exec(name)?.[1] ?? generation);
    if (isLeft || claim < generation) discard(path.join(store, name));
  }
}

/** @throws {FleetError} GENERATION_ABORTED when a higher generation than `generation` owns it */
export function assertOwned(store: string, generation: number): void {
  assertHighest(store, generation, claimsOf(store));
}

function assertHighest(store: string, generation: number, claims: readonly number[]): void {
  const highest = Math.max(...claims, generation);
  if (highest === generation) return;
  throw new FleetError(
    "GENERATION_ABORTED",
    `fenced off: ${store} belongs to generation ${highest}, this is ${generation}`,
    { generation, owner: highest },
  );
}

/** Generations that have claimed the store; none when it cannot be read. */
function claimsOf(store: string): readonly number[] {
  let names: string[];
  try {
    names = readdirSync(store);
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    const generation = CLAIM.exec(name)?.[1];
    return generation === undefined ? [] : [Number(generation)];
  });
}

function claimName(generation: number): string {
  return `.generation-${generation}`;
}
