/**
 * Which image goes where: mmengine's DefaultSampler over `torch.randperm`.
 *
 * An epoch's order is a permutation that depends on seed + epoch alone. It is padded with its own
 * beginning to a multiple of the world size, and rank r takes positions r, r + W, r + 2W, ... So
 * step s of W workers with B images each is positions [s B W, (s + 1) B W) of that order, whatever
 * W is.
 */

const STATE_WORDS = 624;
const SHIFT_WORDS = 397;

/** How an epoch is cut into steps. */
export interface StepSplit {
  /** Images in the data set. */
  readonly count: number;
  readonly worldSize: number;
  readonly batchPerWorker: number;
  /** Leaves out the last, smaller batch. */
  readonly dropLast: boolean;
}

/** A permutation of 0 to count - 1, equal to `torch.randperm` with a CPU generator of that seed. */
export function randomPermutation(count: number, seed: number): Int32Array {
  const draw = mersenneTwister(seed);
  const order = Int32Array.from({ length: count }, (_, i) => i);
  for (let i = 0; i < count - 1; i++) {
    const j = i + (draw() % (count - i));
    const kept = order[i]!;
    order[i] = order[j]!;
    order[j] = kept;
  }
  return order;
}

/** One rank's share of an epoch, in the order in which it is used; equally long on all ranks. */
export function epochIndices(options: {
  readonly count: number;
  readonly seed: number;
  readonly epoch: number;
  readonly rank: number;
  readonly worldSize: number;
}): Int32Array {
  const { count, seed, epoch, rank, worldSize } = options;
  const order = randomPermutation(count, seed + epoch);
  const share = new Int32Array(Math.ceil(count / worldSize));
  for (let i = 0; i < share.length; i++) share[i] = order[(rank + i * worldSize) % count]!;
  return share;
}

/** One rank's share of a validation pass: no image twice, so shares may differ by one in length. */
export function shardIndices(count: number, rank: number, worldSize: number): Int32Array {
  const length = Math.max(0, Math.ceil((count - rank) / worldSize));
  return Int32Array.from({ length }, (_, i) => rank + i * worldSize);
}

/** Steps of one epoch; the same for every rank. */
export function stepsPerEpoch({ count, worldSize, batchPerWorker, dropLast }: StepSplit): number {
  const steps = Math.ceil(count / worldSize) / batchPerWorker;
  return dropLast ? Math.floor(steps) : Math.ceil(steps);
}

/** Images per worker in a step of an epoch; `stepInEpoch` counts from 0. */
export function batchSizeAt(split: StepSplit, stepInEpoch: number): number {
  const share = Math.ceil(split.count / split.worldSize);
  return Math.min(split.batchPerWorker, share - stepInEpoch * split.batchPerWorker);
}

/** MT19937 (Matsumoto and Nishimura, 1998) as PyTorch seeds it: the low 32 bits. */
function mersenneTwister(seed: number): () => number {
  const state = new Int32Array(STATE_WORDS);
  state[0] = seed % 2 ** 32;
  for (let i = 1; i < STATE_WORDS; i++) {
    const previous = state[i - 1]!;
    state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
  }
  let used = STATE_WORDS;

  return () => {
    if (used === STATE_WORDS) {
      advance(state);
      used = 0;
    }
    let y = state[used]!;
    used++;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

function advance(state: Int32Array): void {
  for (let i = 0; i < STATE_WORDS; i++) {
    const y = (state[i]! & 0x80000000) | (state[(i + 1) % STATE_WORDS]! & 0x7fffffff);
    const twist = y & 1 ? 0x9908b0df : 0;
    state[i] = state[(i + SHIFT_WORDS) % STATE_WORDS]! ^ (y >>> 1) ^ twist;
  }
}
