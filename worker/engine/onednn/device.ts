/** The parts that an engine computes with. */

import type { VectorKernels } from "./kernels/vector-kernels.ts";
import type { Layouts } from "./layout.ts";
import type { Library } from "./library.ts";
import type { Matrices } from "./matrices.ts";
import type { Primitives } from "./primitives.ts";
import type { Profiler } from "./profiler.ts";
import type { Store } from "./store.ts";

export interface Device {
  readonly library: Library;
  readonly layouts: Layouts;
  readonly primitives: Primitives;
  readonly matrices: Matrices;
  readonly kernels: VectorKernels;
  readonly store: Store;
  readonly profiler: Profiler;
}
