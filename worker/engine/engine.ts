/**
 * The engine seam: the tensor operations that a training step is made of.
 *
 * Small, synchronous and without autograd: every operation has an explicit backward. The logical
 * layout is NCHW, weights have PyTorch's shapes; how an engine stores them is its own affair.
 * Model, loss and optimizer are written once against this interface.
 *
 * Shape letters: N images, C channels, H x W pixels, O output and I input features, K classes,
 * R rows of this worker, G rows of the whole gang, D embedding width.
 *
 * Ownership: every operation returns new tensors and leaves its inputs alone, unless it says
 * otherwise. Tensors made inside {@link Engine.scope} are freed when it ends.
 */

/** Opaque handle of a tensor on the engine's device. */
export interface Tensor {
  readonly shape: readonly number[];
}

/**
 * Number type of activations, of the copies of weights that convolutions read and of the
 * convolutions' arithmetic. Weights, statistics, loss and optimizer are float32 in either.
 */
export type Precision = "f32" | "bf16";

/** What one kind of operation on one set of shapes took. */
export interface OperationProfile {
  /** e.g. "convolution 64x56x56 -> 256x56x56, 1x1". */
  readonly operation: string;
  /** How the engine computed it, in the engine's own words. */
  readonly implementation: string;
  readonly calls: number;
  readonly seconds: number;
  /** Multiplications and additions of matrix products and convolutions; 0 for other operations. */
  readonly flops: number;
}

export interface Geometry {
  readonly stride: number;
  readonly padding: number;
}

/** Per-channel mean and biased variance over `count` values (images x pixels). */
export interface Moments {
  readonly mean: Float32Array;
  readonly variance: Float32Array;
  readonly count: number;
}

/**
 * Makes batch normalisation see the batch of the whole gang. Both calls block until every rank has
 * contributed, and give every rank the same bits. An engine makes one call of each for a norm and
 * its backward, with a shortcut's norm or without.
 */
export interface BatchReducer {
  /** The channels are those of the norm, then those of the shortcut's. */
  moments(local: Moments): Moments;
  /**
   * Replaces `sums` by its sum over all ranks: per channel of dy, then of dy xHat of the norm, then
   * of dy xHat of the shortcut's.
   */
  sums(sums: Float32Array): void;
}

/** A batch norm with given statistics; all four are [C]. */
export interface FrozenNorm {
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly mean: Tensor;
  readonly variance: Tensor;
}

export interface BatchNormOptions {
  readonly eps: number;
  /** Applies max(0, .) to the result, after the residual was added. */
  readonly relu: boolean;
  /** Added to the normalised value, same shape as the input. */
  readonly residual?: Tensor;
}

/** What a norm in training is applied to: x [N,C,H,W] or [N,C]; weight, bias [C]. */
export interface NormInput {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly bias: Tensor;
}

export interface BatchNormTrainOptions extends BatchNormOptions {
  /**
   * A second input, of the first one's shape, which gets a norm of its own and is then added as a
   * residual is. So a gang exchanges the statistics of both at once.
   */
  readonly shortcut?: NormInput;
}

/**
 * What a training batch-norm keeps for its backward. Opaque; freed with the scope or by
 * {@link Engine.release}.
 */
export interface BatchNormSaved {
  readonly tensors: readonly Tensor[];
}

export interface BatchNormTrained {
  readonly y: Tensor;
  readonly saved: BatchNormSaved;
  /** Statistics that were used: of the gang where a reducer was given, else of this worker. */
  readonly moments: Moments;
  /** Present when there was a shortcut. */
  readonly shortcutMoments?: Moments;
}

export interface NormGradients {
  readonly dx: Tensor;
  /** Sums over this worker's values only; the gradient all-reduce adds the other workers'. */
  readonly dWeight: Tensor;
  readonly dBias: Tensor;
}

export interface BatchNormGradients extends NormGradients {
  /** Present when the forward had a residual. */
  readonly dResidual?: Tensor;
  /** Present when the forward had a shortcut. */
  readonly shortcut?: NormGradients;
}

export interface PoolSaved {
  readonly tensors: readonly Tensor[];
}

export interface UpdateOptions {
  readonly lr: number;
  readonly momentum: number;
  readonly weightDecay: number;
  readonly nesterov: boolean;
  /** The gradient is multiplied by this first. */
  readonly gradientScale: number;
  /** Layer-wise adaptation; absent for plain momentum SGD. */
  readonly lars?: { readonly trustCoefficient: number; readonly eps: number };
}

export interface ContrastiveRows {
  /** s_RG = z_RD z_GD^T / temperature; opaque input of {@link Engine.contrastiveGradient}. */
  readonly similarities: Tensor;
  /** log sum over j != i of exp(s_ij), for each own row i. */
  readonly logSumExp_R: Float32Array;
  /** s_ij of each own row i with its partner j = i XOR 1. */
  readonly positive_R: Float32Array;
}

export interface ContrastiveOptions {
  /** Index in the gang's rows of this worker's first row; even. */
  readonly begin: number;
  readonly temperature: number;
}

export interface Engine {
  /** e.g. "tfjs:wasm". */
  readonly name: string;
  /** e.g. "CPU, 1 thread". */
  readonly device: string;

  /** Runs `body` and frees what it made, except the tensors reachable from its result. */
  scope<T>(body: () => T): T;
  /** Frees tensors before their scope ends. Releasing twice is an error. */
  release(...tensors: readonly Tensor[]): void;
  /** Tensors alive now and the bytes they hold. */
  memory(): { readonly tensors: number; readonly bytes: number };
  /** Where the time went since the last call; present when the engine was opened to measure it. */
  readonly takeProfile?: () => readonly OperationProfile[];
  close(): void;

  /** Copies `data` (row-major, logical layout) to the device. */
  upload(data: Float32Array, shape: readonly number[]): Tensor;
  /**
   * Normalises pixels on the device: (pixel - mean) / std per channel.
   * @param pixels_NCHW uint8, RGB, shape [n, 3, height, width]
   */
  uploadImages(
    pixels_NCHW: Uint8Array,
    shape: readonly number[],
    normalise: { readonly mean: readonly number[]; readonly std: readonly number[] },
  ): Tensor;
  /** Copies a tensor to the host, row-major in its logical layout, into `target` when given. */
  download(tensor: Tensor, target?: Float32Array): Float32Array;
  /** Overwrites a tensor in place. */
  assign(tensor: Tensor, data: Float32Array): void;

  /** x [N,I,H,W], weight [O,I,kh,kw] -> [N,O,H',W']. */
  convolution(x: Tensor, weight: Tensor, geometry: Geometry): Tensor;
  /** Gradient with respect to the input; `xShape` is the input's. */
  convolutionBackwardInput(
    dy: Tensor,
    weight: Tensor,
    xShape: readonly number[],
    geometry: Geometry,
  ): Tensor;
  /** Gradient with respect to the weight; `weightShape` is the weight's. */
  convolutionBackwardWeight(
    x: Tensor,
    dy: Tensor,
    weightShape: readonly number[],
    geometry: Geometry,
  ): Tensor;
  /**
   * Convolution with a norm in eval mode after it; there is no backward. An engine may keep what it
   * derives from weight and norm until one of these tensors changes.
   */
  convolutionInference(
    x: Tensor,
    weight: Tensor,
    geometry: Geometry,
    norm: FrozenNorm,
    options: BatchNormOptions,
  ): Tensor;

  /**
   * Batch norm with the statistics of the batch. The running statistics are the caller's affair.
   */
  batchNormTrain(
    input: NormInput,
    options: BatchNormTrainOptions,
    reducer?: BatchReducer,
  ): BatchNormTrained;
  batchNormBackward(dy: Tensor, saved: BatchNormSaved, reducer?: BatchReducer): BatchNormGradients;

  /** 3x3 window, stride 2, padding 1: the only pool that ResNet has. */
  maxPool(x: Tensor): { readonly y: Tensor; readonly saved: PoolSaved };
  maxPoolBackward(dy: Tensor, saved: PoolSaved): Tensor;
  /** [N,C,H,W] -> [N,C]. */
  globalAveragePool(x: Tensor): Tensor;
  globalAveragePoolBackward(dy: Tensor, xShape: readonly number[]): Tensor;

  /** x [N,I], weight [O,I], bias [O] -> x weight^T + bias, [N,O]. */
  linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor;
  linearBackwardInput(dy: Tensor, weight: Tensor): Tensor;
  /** dy [N,O], x [N,I] -> [O,I]. */
  linearBackwardWeight(x: Tensor, dy: Tensor): Tensor;
  /** dy [N,O] -> [O]. */
  linearBackwardBias(dy: Tensor): Tensor;

  add(a: Tensor, b: Tensor): Tensor;

  /**
   * This worker's rows of the similarity matrix. Views are interleaved: row i's partner is i XOR 1.
   * @param z_RD normalised embeddings of this worker
   * @param z_GD normalised embeddings of the gang, in rank order
   */
  contrastiveRows(z_RD: Tensor, z_GD: Tensor, options: ContrastiveOptions): ContrastiveRows;
  /**
   * Gradient of the global mean NT-Xent loss with respect to this worker's normalised rows:
   * dz_i = 1/(G t) sum over j != i of
   *   (exp(s_ij - lse_i) + exp(s_ij - lse_j) - 2 [j = i XOR 1]) z_j.
   * @param logSumExp_G the gathered `logSumExp_R`, in rank order
   */
  contrastiveGradient(
    rows: ContrastiveRows,
    z_GD: Tensor,
    logSumExp_G: Float32Array,
    options: ContrastiveOptions,
  ): Tensor;

  /**
   * Cross entropy of logits [N,K] with integer labels.
   * @returns the sum over rows, and the gradient of `scale` times that sum
   */
  softmaxCrossEntropy(
    logits: Tensor,
    labels: Int32Array,
    scale: number,
  ): { readonly lossSum: number; readonly dLogits: Tensor };

  /**
   * One LARS or SGD step, in place on `weight` and `velocity` (same shape). With w, v, g scaled:
   * local = lars and |w|, |g| > 0 ? c |w| / (|g| + wd |w| + eps) : 1 (|g| without weight decay);
   * d = local lr (g + wd w);  v = momentum v + d;  w -= nesterov ? d + momentum v : v.
   * As in mmpretrain (mmpretrain/engine/optimizers/lars.py), the learning rate is inside the
   * momentum.
   */
  update(weight: Tensor, velocity: Tensor, gradient: Float32Array, options: UpdateOptions): void;
}
