/**
 * t-SNE of features (van der Maaten and Hinton, 2008), exact, so its time grows with the square of
 * the number of images. Equal features and seeds give equal places.
 */

import { PCA, TSNE } from "@saehrimnir/druidjs";
import { FleetError } from "../../proto/errors.ts";

export interface EmbedOptions {
  /** About how many neighbours each image has. */
  readonly perplexity: number;
  readonly iterations: number;
  readonly seed: number;
}

export type Place = readonly [x: number, y: number];

/** Wider features are reduced to so many principal components first, which leaves noise behind. */
const COMPONENTS = 50;
/** Of the power iteration: 99.9 % of what fifty exact components explain. */
const PCA_ITERATIONS = 20;
/** With more images its matrices would not fit into an ordinary machine's memory. */
const EMBEDDED_MAX = 5_000;

/**
 * Places rows of features in the plane, near those that they are like. Blocks the thread.
 *
 * @param onIteration is called after each of `iterations`
 * @throws {FleetError} USAGE as {@link checkEmbeddable}; DATA_INVALID when a feature is not finite
 */
export function embedFeatures(
  rows: readonly Float32Array[],
  { perplexity, iterations, seed }: EmbedOptions,
  onIteration: (done: number) => void,
): readonly Place[] {
  checkEmbeddable(rows.length, perplexity);
  const broken = rows.findIndex((row) => !row.every(Number.isFinite));
  if (broken >= 0) throw new FleetError("DATA_INVALID", `feature row ${broken} is not finite`);
  const reduced = reduce(rows, seed);
  const epsilon = learningRate(rows.length);
  const tsne = new TSNE(reduced, { perplexity, epsilon, d: 2, seed });
  let places: Float64Array[] = [];
  let done = 0;
  for (const step of tsne.generator(iterations)) {
    places = step;
    done += 1;
    onIteration(done);
  }
  return places.map((place) => [place[0]!, place[1]!]);
}

/** As Belkina et al. (2019) found: proportional to the number of points, and not below 50. */
function learningRate(rows: number): number {
  const earlyExaggeration = 4;
  return Math.max(50, rows / earlyExaggeration / 4);
}

function reduce(rows: readonly Float32Array[], seed: number): Float64Array[] {
  const exact = rows.map((row) => Float64Array.from(row));
  const width = rows[0]?.length ?? 0;
  if (width <= COMPONENTS || rows.length <= COMPONENTS) return exact;
  const eig_args = { max_iterations: PCA_ITERATIONS };
  return new PCA(exact, { d: COMPONENTS, seed, eig_args }).transform();
}

/** @throws {FleetError} USAGE when images are too many, or too few for the perplexity */
export function checkEmbeddable(images: number, perplexity: number): void {
  if (images > EMBEDDED_MAX) {
    const advice = "lower --max-num-samples or --max-num-class";
    throw new FleetError("USAGE", `${images} images, at most ${EMBEDDED_MAX}; ${advice}`);
  }
  const needed = 3 * perplexity + 1;
  if (images >= needed) return;
  const problem = `perplexity ${perplexity} needs ${needed} images, there are ${images}`;
  throw new FleetError("USAGE", `${problem}; take more of them, or lower --perplexity`);
}
