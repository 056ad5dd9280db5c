/** How much may be held at the same time: by one peer, told by its address, and by all. Pure. */

export interface Quota {
  readonly perPeer: number;
  readonly total: number;
}

export class PeerQuota {
  readonly #quota: Quota;
  readonly #held = new Map<string, number>();
  #total = 0;

  constructor(quota: Quota) {
    this.#quota = quota;
  }

  /** Takes a place. Gives the way to return it, of which a second call is no harm, or undefined. */
  take(address: string): (() => void) | undefined {
    const held = this.#held.get(address) ?? 0;
    if (held >= this.#quota.perPeer || this.#total >= this.#quota.total) return undefined;
    this.#held.set(address, held + 1);
    this.#total += 1;
    let isHeld = true;
    return () => {
      if (isHeld) this.#release(address);
      isHeld = false;
    };
  }

  #release(address: string): void {
    const held = this.#held.get(address) ?? 0;
    if (held > 1) this.#held.set(address, held - 1);
    else this.#held.delete(address);
    this.#total -= 1;
  }
}
