/**
 * The recipe: everything that decides the numbers of an experiment, and nothing else.
 *
 * Where it runs (addresses, timeouts, folders) is configuration of the commands. Equal recipes and
 * equal data give equal weights, however often the run was interrupted. Names and defaults follow
 * mmpretrain's SimCLR; comments name the difference where there is one.
 */

import { z } from "zod";
import { FleetError } from "./errors.ts";
import { NEIGHBOURS_LENGTH_MAX, RANKS_MAX } from "./limits.ts";
import { knownKeys, nearestKey } from "./recipe-keys.ts";
import { boundsProblem } from "./world-sizes.ts";

const count = z.int().positive();
const ranks = z.int().positive().max(RANKS_MAX);
const fraction = z.number().min(0).max(1);
const nonNegative = z.number().nonnegative();
const positive = z.number().positive();
const rgb = z.tuple([z.number(), z.number(), z.number()]);
const range = z.tuple([positive, positive]).refine(([low, high]) => low <= high, {
  error: "must be [low, high] with low <= high",
});

const blurRange = range.refine(([, high]) => high <= 60, { error: "must be at most 60 pixels" });

export const modelSchema = z.strictObject({
  depth: z.literal([18, 34, 50, 101]),
  width: positive
    .default(1)
    .describe("Multiplies the channels of every layer; 0.25 and 4 are fine."),
  stem: z
    .enum(["imagenet", "cifar"])
    .default("imagenet")
    .describe("imagenet: 7x7/2 convolution and max-pool; cifar: 3x3/1 convolution, no pool."),
  zeroInitResidual: z.boolean().default(true),
  normEps: positive.default(1e-5),
  normMomentum: fraction.default(0.1).describe("Weight of the newest batch in running statistics."),
  neck: z
    .strictObject({
      hidden: count.optional().describe("Width of the hidden layer; the backbone's when absent."),
      out: count.default(128),
    })
    .default({ out: 128 }),
});

const splitSchema = z.strictObject({
  path: z
    .string()
    .min(1)
    .describe(
      "Folder of images, folder per class, .tar file, or pattern of tar shards with one *.",
    ),
  annotations: z
    .string()
    .optional()
    .describe("List of `path label` lines, as in meta/train.txt; used when the file exists."),
  limit: count.optional().describe("Use only this many images, spread evenly over the split."),
});

const dataSchema = z.strictObject({
  root: z.string().min(1).describe("Folder that the paths of the splits are relative to."),
  train: splitSchema,
  val: splitSchema,
  imageSize: count.default(224),
  mean: rgb.default([123.675, 116.28, 103.53]).describe("RGB, on the 0..255 scale."),
  std: rgb.default([58.395, 57.12, 57.375]),
  scaledDecoding: z
    .boolean()
    .default(true)
    .describe(
      "Decode a JPEG at 1/2, 1/4 or 1/8 of its size while crops stay 4 times as large as views.",
    ),
  skipLimit: z
    .int()
    .nonnegative()
    .default(100)
    .describe("Unreadable images per stage that are replaced before the experiment fails."),
});

const larsSchema = z.strictObject({
  type: z.literal("lars"),
  lr: positive,
  momentum: fraction.default(0.9),
  weightDecay: nonNegative.default(1e-6),
  trustCoefficient: positive.default(0.001),
  eps: nonNegative.default(1e-8),
  nesterov: z.boolean().default(false),
  excludeNormAndBias: z
    .boolean()
    .default(true)
    .describe("No decay and no adaptation for batch-norm parameters and biases."),
});

const sgdSchema = z.strictObject({
  type: z.literal("sgd"),
  lr: positive,
  momentum: fraction.default(0.9),
  weightDecay: nonNegative.default(0),
  nesterov: z.boolean().default(false),
  excludeNormAndBias: z.boolean().default(false),
});

const optimizerSchema = z.discriminatedUnion("type", [larsSchema, sgdSchema]);

const scheduleSchema = z.strictObject({
  warmupEpochs: nonNegative.default(0).describe("Linear, per step."),
  warmupStartFactor: fraction.default(1e-4),
  decay: z.enum(["cosine", "constant"]).default("cosine"),
  decayPer: z
    .enum(["epoch", "step"])
    .default("epoch")
    .describe("mmpretrain lowers the rate once an epoch, the paper once a step."),
  minLr: nonNegative.default(0),
});

const checkpointSchema = z.strictObject({
  everyEpochs: count.default(10),
  everySteps: count.optional().describe("In addition, every so many steps."),
  keep: count.default(3),
});

const cropSchema = z.strictObject({
  scale: range.default([0.08, 1]).describe("Area of the crop as a share of the image."),
  ratio: range.default([3 / 4, 4 / 3]).describe("Width / height."),
});

const augmentationSchema = z.strictObject({
  crop: cropSchema.default({ scale: [0.08, 1], ratio: [3 / 4, 4 / 3] }),
  flip: fraction.default(0.5),
  jitter: z
    .strictObject({
      probability: fraction.default(0.8),
      brightness: nonNegative.default(0.8),
      contrast: nonNegative.default(0.8),
      saturation: nonNegative.default(0.8),
      hue: z.number().min(0).max(0.5).default(0.2),
    })
    .prefault({}),
  grayscale: fraction.default(0.2),
  blur: z
    .strictObject({ probability: fraction.default(0.5), sigma: blurRange.default([0.1, 2]) })
    .prefault({}),
});

const monitorSchema = z.strictObject({
  everyEpochs: count.default(10).describe("Also after the last epoch."),
  valImages: count
    .default(5_000)
    .describe("Validation images that are looked at, spread evenly over the split."),
  knn: z
    .strictObject({
      enabled: z.boolean().default(true),
      neighbours: z
        .array(count)
        .min(1)
        .max(NEIGHBOURS_LENGTH_MAX)
        .refine((each) => new Set(each).size === each.length, { error: "repeats a number" })
        .default([20, 200]),
      temperature: positive.default(0.07).describe("A neighbour's vote is exp(cosine / this)."),
      trainImages: count
        .default(20_000)
        .describe("Training images that neighbours are sought among, spread evenly."),
    })
    .prefault({}),
  probe: z
    .strictObject({
      enabled: z.boolean().default(true),
      lr: positive
        .default(0.3)
        .describe("Of SGD per 256 images of the global batch; follows the stage's schedule."),
      momentum: fraction.default(0.9),
    })
    .prefault({}),
});

const pretrainSchema = z
  .strictObject({
    workers: ranks,
    batchPerWorker: count.describe("Images, not views: each image is encoded twice."),
    epochs: count,
    syncBatchNorm: z.boolean().default(true),
    temperature: positive.default(0.1),
    gradientScale: z
      .enum(["exact", "mmpretrain"])
      .default("mmpretrain")
      .describe(
        "exact: gradient of the global mean loss; mmpretrain: 1/workers of it, as DDP averages.",
      ),
    optimizer: optimizerSchema,
    schedule: scheduleSchema.prefault({}),
    augmentation: augmentationSchema.prefault({}),
    checkpoint: checkpointSchema.prefault({}),
    dropLast: z.boolean().default(false).describe("Leave out an epoch's last, smaller batch."),
    monitor: monitorSchema
      .prefault({})
      .describe("Quality of the features while they are trained, on data that has labels."),
  })
  .refine((stage) => stage.schedule.warmupEpochs < stage.epochs, {
    path: ["schedule", "warmupEpochs"],
    error: "must be less than epochs",
  });

const linearSchema = z
  .strictObject({
    name: z.string().min(1),
    workers: ranks,
    batchPerWorker: count,
    epochs: count,
    classes: count,
    init: z
      .string()
      .min(1)
      .default("pretrain")
      .describe(
        "pretrain: this experiment's backbone; random; or the path of a checkpoint folder, or of " +
          "a .pth or .safetensors file of PyTorch, of which the backbone is used.",
      ),
    optimizer: optimizerSchema,
    schedule: scheduleSchema.prefault({}),
    crop: cropSchema.default({ scale: [0.08, 1], ratio: [3 / 4, 4 / 3] }),
    flip: fraction.default(0.5),
    validation: z
      .strictObject({
        resizeEdge: count.default(256).describe("Short edge before the centre crop."),
        batchPerWorker: count.default(32),
        everyEpochs: count.default(1),
      })
      .prefault({}),
    checkpoint: checkpointSchema.prefault({}),
    dropLast: z.boolean().default(false),
  })
  .refine((stage) => stage.schedule.warmupEpochs < stage.epochs, {
    path: ["schedule", "warmupEpochs"],
    error: "must be less than epochs",
  });

const elasticSchema = z.strictObject({
  minWorkers: count
    .optional()
    .describe("Fewest workers that a stage goes on with; all of its own when absent."),
  maxWorkers: count
    .optional()
    .describe("Most workers that a stage is given; all of its own when absent."),
  waitSeconds: nonNegative
    .default(30)
    .describe("How long a stage waits for its most workers before it takes fewer."),
  maxRestarts: z
    .int()
    .nonnegative()
    .default(3)
    .describe("Failures in a row without a new step, until the experiment fails."),
  checksumEverySteps: z
    .int()
    .nonnegative()
    .default(100)
    .describe("How often ranks compare their weights, beside every checkpoint; 0: only then."),
  stragglerFactor: z
    .number()
    .gt(1)
    .default(2)
    .describe("A rank is named as a straggler when its own work takes so many times the median."),
});

export const stageNameSchema = z.enum(["pretrain", "linear"]);

const recipeSchema = z
  .strictObject({
    name: z.string().regex(/^[A-Za-z0-9_.-]+$/, "must be made of letters, digits, _ . -"),
    description: z.string().default(""),
    seed: z.int().min(0).max(0xffffffff).default(0),
    stages: z
      .array(stageNameSchema)
      .min(1)
      .default(["pretrain", "linear"])
      .describe("Leave one out to run only the other."),
    model: modelSchema,
    data: dataSchema,
    pretrain: pretrainSchema,
    linear: linearSchema,
    elastic: elasticSchema.prefault({}).describe("What becomes of a stage when workers are lost."),
    collective: z
      .strictObject({
        wire: z.enum(["f32", "bf16"]).default("f32").describe("Gradients on the network."),
        bucketBytes: count.default(25 * 1024 * 1024),
      })
      .prefault({}),
  })
  .superRefine((recipe, context) => {
    const problem = (path: (string | number)[], message: string): void =>
      context.addIssue({ code: "custom", path, message });
    if (new Set(recipe.stages).size < recipe.stages.length) problem(["stages"], "repeats a stage");
    if (recipe.stages.join() === "linear,pretrain") {
      problem(["stages"], "must have pretrain before linear");
    }
    if (!recipe.stages.includes("pretrain") && recipe.linear.init === "pretrain") {
      problem(["linear", "init"], 'cannot be "pretrain" when stages leaves pretrain out');
    }
    if (recipe.linear.validation.resizeEdge < recipe.data.imageSize) {
      problem(["linear", "validation", "resizeEdge"], "must not be less than data.imageSize");
    }
    if (recipe.pretrain.workers * recipe.pretrain.batchPerWorker < 2) {
      problem(["pretrain", "batchPerWorker"], "needs a global batch of 2 images for negatives");
    }
    const { minWorkers = 1, maxWorkers = minWorkers } = recipe.elastic;
    if (minWorkers > maxWorkers) problem(["elastic", "minWorkers"], "must not exceed maxWorkers");
    else {
      for (const stage of new Set(recipe.stages)) {
        const uneven = boundsProblem(stage, recipe[stage].workers, recipe.elastic);
        if (uneven !== undefined) problem(["elastic"], uneven);
      }
    }
    if (recipe.model.stem === "imagenet" && recipe.data.imageSize < 32) {
      problem(["model", "stem"], "imagenet needs data.imageSize of at least 32; use cifar");
    }
  });

/** A recipe with every default filled in. */
export type Recipe = z.output<typeof recipeSchema>;
/** A recipe as people write it. */
export type RecipeInput = z.input<typeof recipeSchema>;
export type ModelRecipe = Recipe["model"];
export type DataRecipe = Recipe["data"];
type PretrainRecipe = Recipe["pretrain"];
export type LinearRecipe = Recipe["linear"];
export type OptimizerRecipe = PretrainRecipe["optimizer"];
export type ScheduleRecipe = PretrainRecipe["schedule"];
export type MonitorRecipe = PretrainRecipe["monitor"];
export type AugmentationRecipe = PretrainRecipe["augmentation"];
export type StageName = Recipe["stages"][number];

/** The dotted path of every key that a recipe may have. */
export const RECIPE_KEYS: readonly string[] = knownKeys(recipeSchema);

/** Says where a key of the input stands, e.g. "line 7"; undefined where that is not known. */
export type Locate = (path: readonly PropertyKey[]) => string | undefined;

/**
 * Checks a recipe from outside and fills in its defaults.
 *
 * Reports every problem at once, each with its path, because a user fixes a file, not a field.
 *
 * @throws {FleetError} RECIPE_INVALID
 */
export function parseRecipe(input: unknown, locate: Locate = () => undefined): Recipe {
  const parsed = recipeSchema.safeParse(input);
  if (parsed.success) return parsed.data;

  const problems = parsed.error.issues.flatMap((issue) => {
    if (issue.code !== "unrecognized_keys") return [describe(issue.path, issue.message, locate)];
    return issue.keys.map((key) => {
      const path = [...issue.path, key];
      return describe(path, `unknown key${didYouMean(path.join("."))}`, locate);
    });
  });
  throw new FleetError("RECIPE_INVALID", `recipe is invalid: ${problems.join("; ")}`, {
    problems: problems.length,
  });
}

function describe(path: readonly PropertyKey[], message: string, locate: Locate): string {
  const where = locate(path);
  return `${path.join(".") || "recipe"}${where ? ` (${where})` : ""}: ${message}`;
}

/** A hint to the nearest known key, to end an error message with; empty when none is near. */
export function didYouMean(path: string): string {
  const nearest = nearestKey(path, RECIPE_KEYS);
  return nearest === undefined ? "" : ` (nearest: ${nearest})`;
}
