/** Reads what a cluster's administrator wants otherwise in a worker's Job. */

import { readFile } from "node:fs/promises";
import { FleetError } from "../../proto/errors.ts";
import type { JobTemplate } from "../kubernetes/merge-template.ts";

/**
 * @param flag the option that names the file
 * @throws {FleetError} NOT_FOUND, or USAGE naming every problem
 */
export async function readJobTemplate(flag: string, file: string): Promise<JobTemplate> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? "no such file" : String(cause);
    throw new FleetError("NOT_FOUND", `cannot read ${flag} ${file}: ${why}`, {}, cause);
  }
  // The types that it is checked against are of a large package, which other commands do without.
  const { parseJobTemplate } = await import("../kubernetes/job-template.ts");
  return parseJobTemplate(text, `${flag} ${file}`);
}
