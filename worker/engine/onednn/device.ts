/** The parts that an engine computes with. */

import type { Convolutions } from "./convolutions.ts";
import type { VectorKernels } from "./kernels/vector-kernels.ts";
import type { Layouts } from "./layout.ts";
import type { Library } from "./library.ts";
import type { Matrices } from "./matrices.ts";
import type { NativeWork } from "./native-work.ts";
import type { Pools } from "./pools.ts";
import type { Reorders } from "./reorders.ts";
import type { Store } from "./store.ts";
import type { Workshop } from "./workshop.ts";

export interface Device {
  readonly library: Library;
  readonly layouts: Layouts;
  readonly workshop: Workshop;
  readonly convolutions: Convolutions;
  readonly pools: Pools;
  readonly reorders: Reorders;
  readonly matrices: Matrices;
  readonly kernels: VectorKernels;
  readonly store: Store;
  readonly work: NativeWork;
}
