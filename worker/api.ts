/** What programs import from this package: models by name or file, predictions and features. */

export { type ErrorCode, FleetError } from "../proto/errors.ts";
export type { InputRecipe } from "../proto/model/input-view.ts";
export {
  extractFeatures,
  type FeatureOptions,
  type FeatureStage,
  streamFeatures,
} from "./inference/extract-features.ts";
export { type GetModelOptions, getModel } from "./inference/get-model.ts";
export type { ImageInput } from "./inference/image-input.ts";
export { IMAGENET_CLASSES } from "./inference/imagenet-classes.ts";
export {
  type InferenceOptions,
  inferenceModel,
  type Prediction,
  streamPredictions,
} from "./inference/inference-model.ts";
export type { BatchOptions, ImageOutcome } from "./inference/map-images.ts";
export {
  type ListOptions,
  listModels,
  MODEL_CARDS,
  type ModelCard,
  type ModelTask,
} from "./inference/model-zoo.ts";
export type { ModelOutput, OpenModel } from "./inference/open-model.ts";
