import { type EngineRequest, leaseEngine } from "./engine-lease.ts";
import { readModelSource, type SourceOptions } from "./model-source.ts";
import { OpenModel } from "./open-model.ts";

export interface GetModelOptions extends SourceOptions, EngineRequest {}

/**
 * Opens a model in eval mode. The caller closes it.
 *
 * @param what name of a model, path of a recipe's .yaml file, or path of weights: a checkpoint
 *   folder, .pth or .safetensors
 * @throws {FleetError} NOT_FOUND, USAGE, RECIPE_INVALID, CHECKPOINT_INVALID, ENGINE_UNAVAILABLE;
 *   STATE_CONFLICT while models are open that compute with another engine
 */
export async function getModel(what: string, options: GetModelOptions = {}): Promise<OpenModel> {
  const source = await readModelSource(what, options);
  const lease = await leaseEngine(options);
  try {
    return new OpenModel(source, lease);
  } catch (thrown) {
    lease.release();
    throw thrown;
  }
}
