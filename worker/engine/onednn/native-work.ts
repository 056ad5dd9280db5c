/**
 * Every stretch of native code runs through here: shielded from signals, and measured on request.
 *
 * oneDNN's matrix products on AVX keep data where the stack pointer points. A signal that arrives
 * then, be it Ctrl-C or a work's tick, has its frame written over the heap. So signals wait
 * until an operation has ended. OpenMP's threads inherit the shield, since only operations start
 * any.
 */

import { performance } from "node:perf_hooks";
import koffi from "koffi";
import type { OperationProfile } from "../engine.ts";

export interface Operation {
  /** e.g. "convolution [16,64,56,56] * [256,64,1,1]". */
  readonly name: string;
  readonly implementation: string;
  /** Multiplications and additions. */
  readonly flops: number;
}

interface Tally {
  readonly operation: Operation;
  calls: number;
  seconds: number;
}

/** Linux: `sigset_t` and what is in `signal.h`. */
const SIGNAL_SET_BYTES = 128;
const SIG_BLOCK = 0;
const SIG_SETMASK = 2;
/** Faults of the code itself: ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS. They cannot wait. */
const FAULTS = [4, 5, 6, 7, 8, 11, 31];

type SetMask = (how: number, set: Uint8Array, old: Uint8Array | null) => number;

export class NativeWork {
  readonly isProfiled: boolean;
  readonly #tallies = new Map<string, Tally>();
  readonly #setMask: SetMask;
  readonly #shield = new Uint8Array(SIGNAL_SET_BYTES).fill(0xff);
  readonly #before = new Uint8Array(SIGNAL_SET_BYTES);

  constructor(isProfiled: boolean) {
    this.isProfiled = isProfiled;
    this.#setMask = koffi
      .load("libc.so.6")
      .func("int pthread_sigmask(int how, void *set, void *old)");
    for (const signal of FAULTS) {
      this.#shield[(signal - 1) >> 3]! &= ~(1 << ((signal - 1) & 7));
    }
  }

  run(operation: Operation, body: () => void): void {
    const began = performance.now();
    this.#setMask(SIG_BLOCK, this.#shield, this.#before);
    try {
      body();
    } finally {
      this.#setMask(SIG_SETMASK, this.#before, null);
    }
    if (this.isProfiled) this.#book(operation, (performance.now() - began) / 1000);
  }

  /** What was measured since the last call. */
  takeProfile(): readonly OperationProfile[] {
    const profiles = [...this.#tallies.values()].map(({ operation, calls, seconds }) => ({
      operation: operation.name,
      implementation: operation.implementation,
      calls,
      seconds,
      flops: calls * operation.flops,
    }));
    this.#tallies.clear();
    return profiles;
  }

  #book(operation: Operation, seconds: number): void {
    const key = `${operation.name} ${operation.implementation}`;
    const tally = this.#tallies.get(key) ?? { operation, calls: 0, seconds: 0 };
    tally.calls += 1;
    tally.seconds += seconds;
    this.#tallies.set(key, tally);
  }
}
