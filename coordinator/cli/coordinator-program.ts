/** The subcommands of `coordinator`, in the order of its help. */

import type { CliProgram } from "../../proto/cli/run-program.ts";
import { registerDemo } from "../demo/demo.ts";
import { registerEvents } from "./events.ts";
import {
  registerCancel,
  registerList,
  registerPause,
  registerResume,
  registerRetry,
  registerShow,
} from "./experiments.ts";
import { registerLogs } from "./logs.ts";
import { registerManifests } from "./manifests.ts";
import { registerRecipes } from "./recipes.ts";
import { registerStart } from "./start.ts";
import { registerSubmit } from "./submit.ts";
import { registerWatch } from "./watch.ts";
import { registerDrain, registerWorkers } from "./workers.ts";

export const COORDINATOR_PROGRAM: CliProgram = {
  name: "coordinator",
  description: "SimCLR pre-training and linear evaluation over a fleet of workers",
  commands: [
    registerDemo,
    registerStart,
    registerSubmit,
    registerList,
    registerShow,
    registerWatch,
    registerEvents,
    registerLogs,
    registerCancel,
    registerPause,
    registerResume,
    registerRetry,
    registerWorkers,
    registerDrain,
    registerRecipes,
    registerManifests,
  ],
};
