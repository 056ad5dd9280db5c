#!/usr/bin/env -S node --min-semi-space-size=64 --max-semi-space-size=128
/**
 * The `worker` command. The only file of this side that touches the process.
 *
 * A step receives all gradients in short-lived buffers. With the usual few megabytes for young
 * objects the collector of garbage runs all the time, on a core that an engine needs.
 */

import { openProcessContext } from "../proto/cli/process-context.ts";
import { runProgram } from "../proto/cli/run-program.ts";
import { WORKER_PROGRAM } from "./cli/worker-program.ts";

await runProgram(WORKER_PROGRAM, process.argv.slice(2), openProcessContext(process));
