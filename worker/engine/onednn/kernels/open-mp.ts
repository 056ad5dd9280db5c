/**
 * GNU's OpenMP run-time. oneDNN's threads are its threads: a run-time of our own would fight with
 * them over the processors.
 */

import koffi from "koffi";
import type { Team } from "./work-items.ts";

const LIBRARY = "libgomp.so.1";
const RTLD_NOW = 0x2;
const RTLD_NODELETE = 0x1000;

/** Calls void code(void *slots) on every thread of a team, and waits for all of them. */
export type RunTeam = (code: number, slots: number, threads: number, flags: number) => void;

/** Throws where the run-time is not installed. */
export function loadOpenMp(): { readonly runTeam: RunTeam; readonly team: Team } {
  // The pool's threads outlive every call, and crash when the process or a thread ends and koffi
  // unloads the code that they wait in.
  const dlopen = koffi.load(null).func("void *dlopen(const char *path, int flags)");
  if (!dlopen(LIBRARY, RTLD_NOW | RTLD_NODELETE)) {
    throw new Error(`${LIBRARY}, GNU's OpenMP run-time, cannot be loaded`);
  }
  const library = koffi.load(LIBRARY);
  const addressOf = (name: string) => Number(koffi.address(library.symbol(name)));
  return {
    runTeam: library.func(
      "void GOMP_parallel(uintptr_t code, uintptr_t slots, uint threads, uint flags)",
    ),
    team: {
      threadIndex: addressOf("omp_get_thread_num"),
      threadCount: addressOf("omp_get_num_threads"),
    },
  };
}
