import { openLog } from "../../../proto/log.ts";
import { PLAINTEXT } from "../../../proto/transport.ts";
import type { StageRunnerOptions } from "../../../worker/session/stage-runner.ts";

/** How a test runs a stage in its own process, on servers of `startLoopbackServer`. */
export function runnerOptions(
  own: Pick<StageRunnerOptions, "engine" | "checkpoints" | "server" | "workDir">,
): StageRunnerOptions {
  return {
    ...own,
    // In this thread: starting others takes longer than all they would load.
    loaderThreads: 0,
    joinToken: "secret",
    transport: PLAINTEXT,
    collectiveTimeoutMs: undefined,
    logSamples: false,
    trace: undefined,
    log: openLog({ level: "silent", process: "test" }),
  };
}
