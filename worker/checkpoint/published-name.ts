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
  const promised = PUBLISHED.exec(file.path)?.[1];
  if (promised === undefined) return;
  const actual = file.sha256().slice(0, DIGITS);
  if (actual === promised) return;
  throw new FleetError(
    "CHECKPOINT_INVALID",
    `its name promises a SHA-256 of ${promised}..., it is ${actual}...: the file is damaged or ` +
      "another one; rename it if that number is something else",
  );
}

/** `file` with the digits of its contents' SHA-256 behind its name. */
export function publishedName(file: string, sha256: string): string {
  const { dir, name, ext } = path.parse(file);
  return path.join(dir, `${name}-${sha256.slice(0, DIGITS)}${ext}`);
}
