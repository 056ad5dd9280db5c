/** The subcommands of `worker`, in the order of its help. */

import type { CliProgram } from "../../proto/cli/run-program.ts";
import { registerAnalyzeLogs } from "./analyze-logs.ts";
import { registerBrowseDataset } from "./browse-dataset.ts";
import { registerConfusionMatrix } from "./confusion-matrix.ts";
import { registerConvert } from "./convert.ts";
import { registerExtractFeatures } from "./extract-features.ts";
import { registerListModels } from "./list-models.ts";
import { registerPlotSchedule } from "./plot-schedule.ts";
import { registerPredict } from "./predict.ts";
import { registerStart } from "./start.ts";
import { registerTsne } from "./tsne.ts";

export const WORKER_PROGRAM: CliProgram = {
  name: "worker",
  description: "One member of a simclr-fleet cluster, and what to do with data and checkpoints",
  commands: [
    registerStart,
    registerConvert,
    registerListModels,
    registerPredict,
    registerExtractFeatures,
    registerBrowseDataset,
    registerPlotSchedule,
    registerAnalyzeLogs,
    registerConfusionMatrix,
    registerTsne,
  ],
};
