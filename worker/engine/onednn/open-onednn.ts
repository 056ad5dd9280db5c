import type { Precision } from "../engine.ts";
import { Arena } from "./arena.ts";
import { Convolutions } from "./convolutions.ts";
import { VectorKernels } from "./kernels/vector-kernels.ts";
import { Layouts } from "./layout.ts";
import { Library, unavailable } from "./library.ts";
import { Matrices } from "./matrices.ts";
import { NativeWork } from "./native-work.ts";
import { OnednnEngine } from "./onednn-engine.ts";
import { Pools } from "./pools.ts";
import { Reorders } from "./reorders.ts";
import { Store } from "./store.ts";
import { setThreads } from "./threads.ts";
import { Workshop } from "./workshop.ts";

/** Bits of `dnnl_cpu_isa_t`. */
const AVX2 = 0x7;
const AVX512 = 0x27;
const AVX512_BF16 = 0xe7;

const NAMES = [
  [AVX512_BF16, "AVX-512 with bf16"],
  [AVX512, "AVX-512"],
  [AVX2, "AVX2"],
] as const;

export interface OnednnOptions {
  readonly threads: number;
  readonly precision: Precision;
  readonly profile?: boolean;
}

/** @throws {FleetError} ENGINE_UNAVAILABLE, with what is missing and what to do about it */
export function openOnednn({ threads, precision, profile = false }: OnednnOptions): OnednnEngine {
  const library = Library.open();
  const isa = library.symbols.effectiveIsa();
  const has = (set: number): boolean => (isa & set) === set;
  const instructions = NAMES.find(([set]) => has(set))?.[1];
  if (instructions === undefined) {
    throw unavailable("this CPU has no AVX2, which the engine's kernels are written in");
  }
  setThreads(threads);
  const kernels = openKernels(threads);
  const work = new NativeWork(profile);
  const arena = new Arena();
  const layouts = new Layouts(library, has(AVX512) ? 16 : 8, precision);
  // oneDNN computes in bf16 from AVX-512 on; below, feature maps are widened on the way.
  const computed = has(AVX512) ? precision : "f32";
  const workshop = new Workshop({
    library,
    layouts,
    arena,
    kernels,
    work,
    precision: computed,
  });
  const reorders = new Reorders(workshop);
  const { major, minor, patch } = library.version;
  const counted = `${threads} thread${threads === 1 ? "" : "s"}`;
  const kept = computed === precision ? "" : `, feature maps in ${precision}, computing in f32`;
  return new OnednnEngine(
    {
      library,
      layouts,
      workshop,
      reorders,
      kernels,
      work,
      convolutions: new Convolutions(workshop),
      pools: new Pools(workshop),
      matrices: new Matrices(library, work),
      store: new Store(arena, layouts, reorders),
    },
    {
      name: precision === "f32" ? "onednn" : `onednn:${precision}`,
      device: `CPU, oneDNN ${major}.${minor}.${patch}, ${instructions}, ${counted}${kept}`,
    },
  );
}

function openKernels(threads: number): VectorKernels {
  try {
    return VectorKernels.open(threads);
  } catch (thrown) {
    throw unavailable(thrown instanceof Error ? thrown.message : String(thrown));
  }
}
