/**
 * Published files carry the first 8 digits of their SHA-256 in their name, as mmpretrain's
 * publish_model.py and torchvision write it: `NAME-4d9cce50.pth`.
 */

import path from "node:path";
import { FleetError } from "../../proto/errors.ts";
import type { InputFile } from "./input-file.ts";

const PUBLISHED = /-([0-9a-f]{8})\.(pth|pt|safetensors)$/;
const DIGITS = 8;

/** @throws {FleetError} CHECKPOINT_INVALID when the name promises other contents */
export function checkPublishedName(file: InputFile): void {
  if (!PUBLISHED.test(file.path)) return;
  const mismatch = nameMismatch(file.path, file.sha256());
  if (mismatch === undefined) return;
  throw new FleetError(
    "CHECKPOINT_INVALID",
    `${mismatch}: the file is damaged or another one; rename it if that number is something else`,
  );
}

/** What is wrong with the name of a file whose contents have this SHA-256. */
export function nameMismatch(file: string, sha256: string): string | undefined {
  const promised = PUBLISHED.exec(file)?.[1];
  const actual = sha256.slice(0, DIGITS);
  if (promised === undefined || actual === promised) return undefined;
  return `its name promises a SHA-256 of ${promised}..., it is ${actual}...`;
}

/** `file` with the digits of its contents' SHA-256 behind its name. */
export function publishedName(file: string, sha256: string): string {
  const { dir, name, ext } = path.parse(file);
  return path.join(dir, `${name}-${sha256.slice(0, DIGITS)}${ext}`);
}
