/**
 * The process's one engine, shared by the models that are open.
 *
 * TensorFlow.js and OpenMP keep their state in globals, so a second engine of another kind beside
 * the first is refused. The engine is opened with the first model and closed with the last.
 */

import { FleetError } from "../../proto/errors.ts";
import type { Engine } from "../engine/engine.ts";
import { openEngine } from "../engine/open-engine.ts";

export interface EngineRequest {
  /** As `worker start --engine`; auto when absent. */
  readonly engine?: string;
  /** CPU threads; 1 when absent. */
  readonly threads?: number;
}

export interface EngineLease {
  readonly engine: Engine;
  /** Closes the engine when nobody else has it. Calling it twice is an error. */
  release(): void;
}

interface Shared {
  readonly request: Required<EngineRequest>;
  readonly opening: Promise<Engine>;
  leases: number;
}

let shared: Shared | undefined;

/**
 * @throws {FleetError} USAGE, ENGINE_UNAVAILABLE; STATE_CONFLICT while models are open that compute
 *   with another engine
 */
export async function leaseEngine(request: EngineRequest): Promise<EngineLease> {
  const { engine: name = "auto", threads = 1 } = request;
  if (!Number.isInteger(threads) || threads < 1) {
    throw new FleetError("USAGE", `threads must be a whole number of at least 1, not ${threads}`);
  }
  shared ??= {
    request: { engine: name, threads },
    opening: openEngine(name, { threads, precision: "f32" }).then(({ engine }) => engine),
    leases: 0,
  };
  const own = shared;
  if (own.request.engine !== name || own.request.threads !== threads) {
    throw new FleetError(
      "STATE_CONFLICT",
      `models are open that compute with ${describe(own.request)}, and a process has one engine; ` +
        `close them before opening one with ${describe({ engine: name, threads })}`,
    );
  }
  own.leases += 1;
  try {
    const engine = await own.opening;
    return { engine, release: () => giveBack(own, engine) };
  } catch (thrown) {
    giveBack(own, undefined);
    throw thrown;
  }
}

function giveBack(own: Shared, engine: Engine | undefined): void {
  own.leases -= 1;
  if (own.leases > 0) return;
  if (shared === own) shared = undefined;
  engine?.close();
}

function describe({ engine, threads }: Required<EngineRequest>): string {
  return `${engine} and ${threads} ${threads === 1 ? "thread" : "threads"}`;
}
