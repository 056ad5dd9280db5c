/** What a group has moved since it formed. */
export interface GroupStats {
  readonly allReduces: number;
  /** Bytes of the buffers that were reduced, in f32; the traffic is another matter. */
  readonly allReduceBytes: number;
  /** Time during which at least one all-reduce was under way. */
  readonly allReduceSeconds: number;
}

/**
 * Of the main thread's all-reduces and the engine thread's. Their times are added: a small exchange
 * beside a large sum counts twice.
 */
export function addStats(a: GroupStats, b: GroupStats | undefined): GroupStats {
  if (b === undefined) return a;
  return {
    allReduces: a.allReduces + b.allReduces,
    allReduceBytes: a.allReduceBytes + b.allReduceBytes,
    allReduceSeconds: a.allReduceSeconds + b.allReduceSeconds,
  };
}

/** Keeps account of all-reduces, of which several may be under way at once. */
export class ReduceStats {
  readonly #total = { allReduces: 0, allReduceBytes: 0, allReduceSeconds: 0 };
  #underWay = 0;
  #busySince = 0;

  get total(): GroupStats {
    return { ...this.#total };
  }

  /** Runs an all-reduce of so many bytes. */
  async measure(bytes: number, allReduce: () => Promise<void>): Promise<void> {
    if (this.#underWay++ === 0) this.#busySince = performance.now();
    try {
      await allReduce();
      this.#total.allReduces++;
      this.#total.allReduceBytes += bytes;
    } finally {
      if (--this.#underWay === 0) {
        this.#total.allReduceSeconds += (performance.now() - this.#busySince) / 1000;
      }
    }
  }
}
