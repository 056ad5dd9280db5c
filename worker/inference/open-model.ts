/** A model on the process's engine, in eval mode. */

import assert from "node:assert/strict";
import { type BackbonePlan, planBackbone } from "../../proto/model/backbone-plan.ts";
import { describeArchitecture } from "../../proto/model/infer-model.ts";
import type { InputRecipe } from "../../proto/model/input-view.ts";
import type { Tensor } from "../engine/engine.ts";
import { type FrozenPass, inferFeatures } from "../model/frozen-backbone.ts";
import { inferEmbeddings } from "../model/frozen-neck.ts";
import type { EngineLease } from "./engine-lease.ts";
import type { ModelSource } from "./model-source.ts";

/** Which numbers of an image are wanted: pooled features, the neck's embedding, or logits. */
export type ModelOutput = "features" | "embeddings" | "logits";

export class OpenModel {
  /** As it was asked for: a name of the zoo, or a path. */
  readonly name: string;
  /** e.g. "ResNet-50". */
  readonly architecture: string;
  /** How an image becomes the model's input. */
  readonly input: InputRecipe;
  /** Whether the weights do not say that and no recipe did, so that the usual was taken. */
  readonly isInputAssumed: boolean;
  /** Name of each output of the classifier; undefined when none is known. */
  readonly classes: readonly string[] | undefined;
  /** Length of a row of each output that the model has; features are always there. */
  readonly widths: Readonly<Partial<Record<ModelOutput, number>>>;
  readonly #lease: EngineLease;
  readonly #plan: BackbonePlan;
  readonly #pass: FrozenPass;
  readonly #tensors: ReadonlyMap<string, Tensor>;
  #isOpen = true;

  /** Takes over the lease; {@link close} gives it back. */
  constructor(source: ModelSource, lease: EngineLease) {
    const { engine } = lease;
    const { name, model, input, classes, outputs, hasNeck } = source;
    this.name = name;
    this.architecture = describeArchitecture(model);
    this.input = input;
    this.isInputAssumed = source.isInputAssumed;
    this.classes = classes;
    this.#lease = lease;
    this.#plan = planBackbone(model);
    this.widths = {
      features: this.#plan.features,
      ...(hasNeck ? { embeddings: model.neck.out } : {}),
      ...(outputs === undefined ? {} : { logits: outputs }),
    };
    this.#tensors = new Map(
      [...source.tensors].map(([tensor, { shape, data }]) => [
        tensor,
        engine.upload(data, /^neck\.fc\d\.weight$/.test(tensor) ? [...shape, 1, 1] : shape),
      ]),
    );
    const tensorOf = (tensor: string): Tensor => this.#tensors.get(tensor)!;
    this.#pass = { engine, eps: model.normEps, tensorOf };
  }

  /** e.g. "onednn". */
  get engine(): string {
    return this.#lease.engine.name;
  }

  /**
   * Computes one output of a batch; blocks this thread until it is there.
   *
   * @param pixels_NCHW uint8, RGB, `input.imageSize` square
   * @returns [n, widths[output]], row-major
   */
  run(pixels_NCHW: Uint8Array, output: ModelOutput): Float32Array {
    assert.ok(this.#isOpen, "the model is closed");
    assert.ok(this.widths[output], `${this.name} has no ${output}`);
    const { engine } = this.#pass;
    const { imageSize, mean, std } = this.input;
    const count = pixels_NCHW.length / (3 * imageSize ** 2);
    return engine.scope(() => {
      const shape = [count, 3, imageSize, imageSize];
      const images = engine.uploadImages(pixels_NCHW, shape, { mean, std });
      const features = inferFeatures(this.#pass, this.#plan, images);
      return this.#finish(features, output);
    });
  }

  /** Frees its memory, and the engine when no other model is open. Closing twice does nothing. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#pass.engine.release(...this.#tensors.values());
    this.#lease.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #finish(features: Tensor, output: ModelOutput): Float32Array {
    const { engine, tensorOf } = this.#pass;
    switch (output) {
      case "features":
        return engine.download(features);
      case "logits": {
        const [weight, bias] = [tensorOf("head.fc.weight"), tensorOf("head.fc.bias")];
        return engine.download(engine.linear(features, weight, bias));
      }
      case "embeddings": {
        const asMap = engine.upload(engine.download(features), [...features.shape, 1, 1]);
        return engine.download(inferEmbeddings(this.#pass, asMap));
      }
    }
  }
}
