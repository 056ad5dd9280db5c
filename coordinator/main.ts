#!/usr/bin/env node
/** The `coordinator` command. The only file of this side that touches the process. */

import { openProcessContext } from "../proto/cli/process-context.ts";
import { runProgram } from "../proto/cli/run-program.ts";
import { COORDINATOR_PROGRAM } from "./cli/coordinator-program.ts";

await runProgram(COORDINATOR_PROGRAM, process.argv.slice(2), openProcessContext(process));
