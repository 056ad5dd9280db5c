/** Sleeping on a 32-bit word in memory that processes share: Atomics.wait knows only its own. */

import { createRequire } from "node:module";

export interface Futex {
  /** Sleeps while the word is `value`; at most `timeoutMs`, and now and then for less. */
  wait(word: Int32Array, value: number, timeoutMs: number): void;
  /** Wakes all who sleep on the word. */
  wake(word: Int32Array): void;
}

/** Numbers of Linux: the system call by architecture, and its operations. */
const SYSCALLS: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 202, arm64: 98 };
const FUTEX_WAIT = 0;
const FUTEX_WAKE = 1;
const EVERYBODY = 2 ** 31 - 1;

type Koffi = typeof import("koffi").default;

/** Undefined where there is none: not on Linux, or without koffi for the platform. */
export function findFutex(): Futex | undefined {
  const number = SYSCALLS[process.arch];
  if (process.platform !== "linux" || number === undefined) return undefined;
  let koffi: Koffi;
  try {
    koffi = createRequire(import.meta.url)("koffi") as Koffi;
  } catch {
    return undefined;
  }
  const syscall = koffi
    .load(null)
    .func("long syscall(long number, void *word, int operation, int value, void *timeout)");
  /** `struct timespec`. */
  const timeout = new BigInt64Array(2);
  return {
    wait: (word, value, timeoutMs) => {
      const ns = BigInt(Math.round(timeoutMs * 1e6));
      timeout[0] = ns / 1_000_000_000n;
      timeout[1] = ns % 1_000_000_000n;
      syscall(number, word, FUTEX_WAIT, value, timeout);
    },
    wake: (word) => void syscall(number, word, FUTEX_WAKE, EVERYBODY, null),
  };
}
