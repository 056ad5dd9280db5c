import { readFileSync } from "node:fs";

/** What a worker's own first line starts Node.js with. */
export function workerFlags(): string[] {
  const main = readFileSync(new URL("../../worker/main.js", import.meta.url), "utf8");
  return main
    .split("\n", 1)[0]!
    .split(" ")
    .filter((word) => word.startsWith("--"));
}
