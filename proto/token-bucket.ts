/** How often something may happen: in bursts, and at a rate in the long run. Pure. */

export interface Rate {
  /** How many may come at once after a pause. */
  readonly burst: number;
  readonly perSecond: number;
}

export class TokenBucket {
  readonly #rate: Rate;
  #tokens: number;
  #filledMs: number;

  constructor(rate: Rate, nowMs: number) {
    this.#rate = rate;
    this.#tokens = rate.burst;
    this.#filledMs = nowMs;
  }

  /** Whether it may happen once more now. */
  take(nowMs: number): boolean {
    if (!this.has(nowMs)) return false;
    this.#tokens -= 1;
    return true;
  }

  /** Whether it may happen once more now; it does not count as done. */
  has(nowMs: number): boolean {
    this.#fill(nowMs);
    return this.#tokens >= 1;
  }

  /** Whether it has forgotten all that has happened. */
  isFull(nowMs: number): boolean {
    this.#fill(nowMs);
    return this.#tokens === this.#rate.burst;
  }

  #fill(nowMs: number): void {
    const { burst, perSecond } = this.#rate;
    const grown = (Math.max(0, nowMs - this.#filledMs) / 1_000) * perSecond;
    this.#tokens = Math.min(burst, this.#tokens + grown);
    this.#filledMs = nowMs;
  }
}

/** One bucket for each of many, an address for one. */
export class TokenBuckets {
  readonly #rate: Rate;
  readonly #keysMax: number;
  readonly #buckets = new Map<string, TokenBucket>();

  /** @param keysMax of whom account is kept at the same time; beyond them nothing may happen */
  constructor(rate: Rate, keysMax: number) {
    this.#rate = rate;
    this.#keysMax = keysMax;
  }

  take(key: string, nowMs: number): boolean {
    return this.#bucketOf(key, nowMs)?.take(nowMs) ?? false;
  }

  /** Whether it may happen once more now; it does not count as done. */
  has(key: string, nowMs: number): boolean {
    return this.#bucketOf(key, nowMs)?.has(nowMs) ?? false;
  }

  #bucketOf(key: string, nowMs: number): TokenBucket | undefined {
    const known = this.#buckets.get(key);
    if (known) return known;
    if (this.#buckets.size >= this.#keysMax) this.#forgetFull(nowMs);
    if (this.#buckets.size >= this.#keysMax) return undefined;
    const bucket = new TokenBucket(this.#rate, nowMs);
    this.#buckets.set(key, bucket);
    return bucket;
  }

  #forgetFull(nowMs: number): void {
    for (const [key, bucket] of this.#buckets) {
      if (bucket.isFull(nowMs)) this.#buckets.delete(key);
    }
  }
}
