/**
 * What a checkpoint's manifest.json says. Written last: a folder without it is not a checkpoint.
 */

import { z } from "zod";
import { inputSchema } from "../../proto/model/input-view.ts";
import { modelSchema } from "../../proto/recipe.ts";

const count = z.int().nonnegative();

export const manifestSchema = z.strictObject({
  format: z.literal("simclr-fleet/checkpoint/1"),
  experimentId: z.string(),
  recipe: z.string().describe("Name of the recipe."),
  stage: z.enum(["pretrain", "linear"]),
  step: count.describe("Steps whose update the weights contain."),
  epoch: z.number().nonnegative().describe("Epochs completed, with a fraction."),
  seed: count,
  worldSize: count.describe("Ranks of the recipe, however many workers held them."),
  generation: count.optional().describe("Of the gang that wrote it."),
  batchesTracked: count.describe("num_batches_tracked of every batch norm."),
  scalars: z
    .record(z.string(), z.number())
    .describe("Figures that the stage's result carries over an interruption."),
  classes: z
    .array(z.string())
    .readonly()
    .optional()
    .describe("Names of what the classifier tells apart, in the order of its outputs."),
  model: modelSchema.optional().describe("What the tensors do not tell of it, such as eps."),
  input: inputSchema.optional().describe("How an image becomes the model's input."),
  createdAt: z.iso.datetime(),
  files: z.record(z.string(), z.strictObject({ bytes: count, sha256: z.string().length(64) })),
});

export type Manifest = z.output<typeof manifestSchema>;
