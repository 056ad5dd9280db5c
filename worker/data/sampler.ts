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
  const state = seededState(seed);
  const order = new Int32Array(count);
  for (let i = 0; i < count; i++) order[i] = i;
  for (let i = 0, used = STATE_WORDS; i < count - 1; i++, used++) {
    if (used === STATE_WORDS) {
      advance(state);
      used = 0;
    }
    // The remainder of two unsigned integers is a machine instruction, that of others is not.
    const j = i + (tempered(state[used]!) % ((count - i) >>> 0));
    const kept = order[i]!;
    order[i] = order[j]!;
    order[j] = kept;
  }
  return order;
}

/**
 * The shares of an epoch that a worker with `ranks` consecutive ranks from `rank` on loads, in the
 * order in which it does: step after step, and in each step rank after rank. All ranks have equally
 * much in every step.
 */
export function epochIndices(options: {
  readonly count: number;
  readonly seed: number;
  readonly epoch: number;
  readonly rank: number;
  readonly ranks: number;
  readonly worldSize: number;
  readonly batchPerWorker: number;
}): Int32Array {
  const { count, seed, epoch, rank, ranks, worldSize, batchPerWorker } = options;
  const order = randomPermutation(count, seed + epoch);
  const share = Math.ceil(count / worldSize);
  const indices = new Int32Array(share * ranks);
  let at = 0;
  for (let begin = 0; begin < share; begin += batchPerWorker) {
    const end = Math.min(begin + batchPerWorker, share);
    for (let held = rank; held < rank + ranks; held++) {
      for (let i = begin; i < end; i++) indices[at++] = order[(held + i * worldSize) % count]!;
    }
  }
  return indices;
}

/** One rank's share of a validation pass: no image twice, so shares may differ by one in length. */
export function shardIndices(count: number, rank: number, worldSize: number): Int32Array {
  const length = Math.max(0, Math.ceil((count - rank) / worldSize));
  const indices = new Int32Array(length);
  for (let i = 0; i < length; i++) indices[i] = rank + i * worldSize;
  return indices;
}

/** Steps of one epoch; the same for every rank. */
export function stepsPerEpoch({ count, worldSize, batchPerWorker, dropLast }: StepSplit): number {
  const steps = Math.ceil(count / worldSize) / batchPerWorker;
  return dropLast ? Math.floor(steps) : Math.ceil(steps);
}

/** Images per rank in a step of an epoch; `stepInEpoch` counts from 0. */
export function batchSizeAt(split: StepSplit, stepInEpoch: number): number {
  const share = Math.ceil(split.count / split.worldSize);
  return Math.min(split.batchPerWorker, share - stepInEpoch * split.batchPerWorker);
}

/** MT19937 (Matsumoto and Nishimura, 1998) as PyTorch seeds it: the low 32 bits. */
function seededState(seed: number): Int32Array {
  const state = new Int32Array(STATE_WORDS);
  state[0] = seed % 2 ** 32;
  for (let i = 1; i < STATE_WORDS; i++) {
    const previous = state[i - 1]!;
    state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
  }
  return state;
}

/** The next {@link STATE_WORDS} words. */
function advance(state: Int32Array): void {
  for (let i = 0; i < STATE_WORDS; i++) {
    const next = i + 1 < STATE_WORDS ? i + 1 : 0;
    const far = i < STATE_WORDS - SHIFT_WORDS ? i + SHIFT_WORDS : i + SHIFT_WORDS - STATE_WORDS;
    const y = (state[i]! & 0x80000000) | (state[next]! & 0x7fffffff);
    state[i] = state[far]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
  }
}

/** A word of the state as the generator gives it out, unsigned. */
function tempered(word: number): number {
  let y = word ^ (word >>> 11);
  y ^= (y << 7) & 0x9d2c5680;
  y ^= (y << 15) & 0xefc60000;
  return (y ^ (y >>> 18)) >>> 0;
}
