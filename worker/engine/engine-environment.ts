/** What the engines' native libraries are to find in the environment when they are loaded. */

import { OPENMP_ENVIRONMENT } from "./onednn/environment.ts";
import { tensorflowEnvironment } from "./tfjs/environment.ts";

/** The process has to set it in its main thread, before an engine is opened. */
export function engineEnvironment(options: {
  readonly threads: number;
}): Readonly<Record<string, string>> {
  return { ...tensorflowEnvironment(options), ...OPENMP_ENVIRONMENT };
}
