/**
 * What a gang's members do together, as the engine thread sees it.
 *
 * Every call is made by all ranks in the same order. A call completes on the caller or throws; it
 * never hangs. Results are bit-identical on all ranks, because sums are taken in a fixed order.
 */

/** A collective under way. */
export interface Work {
  /**
   * Blocks until the collective is complete.
   * @throws {FleetError} GENERATION_ABORTED
   */
  wait(): void;
}

export type SharedFloats = Float32Array<SharedArrayBuffer>;

/** Zeros that all threads of this process can share. */
export function sharedFloats(length: number): SharedFloats {
  return new Float32Array(new SharedArrayBuffer(length * Float32Array.BYTES_PER_ELEMENT));
}

/** Every method throws {@link FleetError} GENERATION_ABORTED once the generation has ended. */
export interface ProcessGroup {
  readonly rank: number;
  readonly worldSize: number;
  /**
   * Seconds since the group formed during which at least one all-reduce was under way. It grows
   * when the last of those under way has completed.
   */
  readonly allReduceSeconds: number;
  /** Seconds since the group formed during which this thread was blocked in a collective. */
  readonly waitedSeconds: number;

  /**
   * Zeros, in memory where sums are fastest: on one host, ranks read one another's as they lie.
   * Called by all ranks with the same length; for what is summed again and again.
   */
  allocate(length: number): SharedFloats;
  /**
   * Starts to replace `buffer` by its sum over all ranks. The caller must not touch `buffer` until
   * `wait()` has returned; when that throws, the contents are undefined.
   */
  allReduce(buffer: SharedFloats): Work;
  /**
   * Starts to replace the part of this rank by its sum over all ranks: of W equal parts of `buffer`
   * the one at place `rank`. The other parts are undefined afterwards. Otherwise as allReduce.
   */
  reduceScatter(buffer: SharedFloats): Work;
  /** Concatenates every rank's `own`, equally long everywhere, in rank order. For small data. */
  allGather(own: Float32Array): Float32Array;
  /** Overwrites `buffer` on every other rank by `root`'s. */
  broadcast(buffer: SharedFloats, root: number): void;
  /** Returns when every rank has called it. */
  barrier(): void;
}

/** The group of a single worker. */
export const soloGroup: ProcessGroup = {
  rank: 0,
  worldSize: 1,
  allReduceSeconds: 0,
  waitedSeconds: 0,
  allocate: sharedFloats,
  allReduce: () => ({ wait: () => {} }),
  reduceScatter: () => ({ wait: () => {} }),
  allGather: (own) => own.slice(),
  broadcast: () => {},
  barrier: () => {},
};
