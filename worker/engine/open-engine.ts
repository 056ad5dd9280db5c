/** Chooses and loads the engine that a worker was asked to compute with. */

import { FleetError } from "../../proto/errors.ts";
import type { Engine, Precision } from "./engine.ts";
import { openNative } from "./tfjs/native/open-native.ts";
import { openWasm } from "./tfjs/wasm/open-wasm.ts";

export interface EngineOptions {
  /** CPU threads that the engine may use. */
  readonly threads: number;
  readonly precision: Precision;
  /** Lets the engine measure its operations, see {@link Engine.takeProfile}. */
  readonly profile?: boolean;
}

/** Best first. */
const LOADERS = {
  "tfjs:node-gpu": (options) => inFloat32("tfjs", options, () => openNative("node-gpu")),
  onednn: async (options) => {
    const { openOnednn } = await importOnednn();
    return openOnednn(options);
  },
  "tfjs:node": (options) => inFloat32("tfjs", options, () => openNative("node")),
  "tfjs:wasm": (options) => inFloat32("tfjs", options, openWasm),
} as const satisfies Record<string, (options: EngineOptions) => Promise<Engine>>;

type EngineName = keyof typeof LOADERS;

const NAMES = Object.keys(LOADERS) as EngineName[];

export interface OpenedEngine {
  readonly engine: Engine;
  /** For the log: which engine was taken, and a line for each better one that did not load. */
  readonly notes: readonly string[];
}

/**
 * Loads one engine by its name, or with `auto` or `tfjs` the best that loads. There is one engine
 * in a process: TensorFlow.js keeps its state in globals.
 *
 * @param request `auto`, `onednn`, `tfjs`, `tfjs:node-gpu`, `tfjs:node` or `tfjs:wasm`
 * @throws {FleetError} USAGE for another name, ENGINE_UNAVAILABLE when the engine cannot load
 */
export async function openEngine(request: string, options: EngineOptions): Promise<OpenedEngine> {
  const wanted = enginesFor(request);
  const reasons: string[] = [];
  for (const name of wanted) {
    try {
      const engine = await LOADERS[name](options);
      return { engine, notes: [...notesOn(engine, options.threads), ...reasons] };
    } catch (thrown) {
      const { message } = FleetError.from(thrown);
      reasons.push(`${name} is not available: ${message}`);
    }
  }
  throw new FleetError("ENGINE_UNAVAILABLE", reasons.join("; "), { engine: request });
}

function enginesFor(request: string): readonly EngineName[] {
  if (request === "auto") return NAMES;
  if (request === "tfjs") return NAMES.filter((name) => name.startsWith("tfjs:"));
  const name = NAMES.find((candidate) => candidate === request);
  if (name) return [name];
  const valid = ["auto", "tfjs", ...NAMES].join(", ");
  throw new FleetError("USAGE", `there is no engine "${request}"; choose one of ${valid}`);
}

function inFloat32(
  engine: string,
  { precision }: EngineOptions,
  open: () => Promise<Engine>,
): Promise<Engine> {
  if (precision === "f32") return open();
  throw new FleetError(
    "ENGINE_UNAVAILABLE",
    `${engine} computes in f32 only, not in ${precision}; the onednn engine can`,
  );
}

/** Loaded late: on a platform that koffi does not know, the other engines must still work. */
async function importOnednn(): Promise<typeof import("./onednn/open-onednn.ts")> {
  try {
    return await import("./onednn/open-onednn.ts");
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message.split("\n", 1)[0] : String(thrown);
    throw new FleetError("ENGINE_UNAVAILABLE", `koffi does not load (${reason})`);
  }
}

function notesOn({ name, device }: Engine, threads: number): string[] {
  const chosen = `computing with ${name} (${device})`;
  if (name !== "tfjs:wasm" || threads === 1) return [chosen];
  return [chosen, `tfjs:wasm uses 1 of ${threads} threads: its threads do not start in Node.js`];
}
