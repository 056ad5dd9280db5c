/** Chooses and loads the engine that a worker was asked to compute with. */

import { FleetError } from "../../proto/errors.ts";
import type { Engine } from "./engine.ts";
import { openNative } from "./tfjs/native/open-native.ts";
import { openWasm } from "./tfjs/wasm/open-wasm.ts";

/** Best first. */
const LOADERS = {
  "tfjs:node-gpu": () => openNative("node-gpu"),
  "tfjs:node": () => openNative("node"),
  "tfjs:wasm": openWasm,
} as const satisfies Record<string, () => Promise<Engine>>;

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
 * @param request `auto`, `tfjs`, `tfjs:node-gpu`, `tfjs:node` or `tfjs:wasm`
 * @param options.threads CPU threads that the engine may use
 * @throws {FleetError} USAGE for another name, ENGINE_UNAVAILABLE when the engine cannot load
 */
export async function openEngine(
  request: string,
  options: { readonly threads: number },
): Promise<OpenedEngine> {
  const wanted = enginesFor(request);
  const reasons: string[] = [];
  for (const name of wanted) {
    try {
      const engine = await LOADERS[name]();
      return { engine, notes: [...notesOn(engine, options.threads), ...reasons] };
    } catch (thrown) {
      const { message } = FleetError.from(thrown);
      reasons.push(`${name} is not available: ${message}`);
    }
  }
  throw new FleetError("ENGINE_UNAVAILABLE", reasons.join("; "), { engine: request });
}

function enginesFor(request: string): readonly EngineName[] {
  if (request === "auto" || request === "tfjs") return NAMES;
  const name = NAMES.find((candidate) => candidate === request);
  if (name) return [name];
  const valid = ["auto", "tfjs", ...NAMES].join(", ");
  throw new FleetError("USAGE", `there is no engine "${request}"; choose one of ${valid}`);
}

function notesOn({ name, device }: Engine, threads: number): string[] {
  const chosen = `computing with ${name} (${device})`;
  if (name !== "tfjs:wasm" || threads === 1) return [chosen];
  return [chosen, `tfjs:wasm uses 1 of ${threads} threads: its threads do not start in Node.js`];
}
