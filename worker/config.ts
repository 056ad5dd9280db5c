/** Where and how a worker runs, as opposed to what it trains. */

import { availableParallelism } from "node:os";
import { z } from "zod";
import { FleetError } from "../proto/errors.ts";
import { ID_PATTERN, ID_RULE } from "../proto/limits.ts";
import { type StageName, stageNameSchema } from "../proto/recipe.ts";
import { checkListener, checkReach, hostOf, type Transport } from "../proto/transport.ts";
import type { Precision } from "./engine/engine.ts";

const port = z.coerce.number().int().min(0).max(65_535);
const address = z.string().regex(/^([^\s:/]+|\[[\da-f:.]+\]):\d{1,5}$/i, "must be HOST:PORT");
const seconds = z.coerce
  .number()
  .positive()
  .max(86_400)
  .transform((value) => value * 1000);

/** A step has some hundreds of spans, of 100 bytes or so. */
const TRACE_STEPS_MAX = 10_000;

const configSchema = z.object({
  coordinator: z
    .string()
    .transform((list) => list.split(","))
    .pipe(z.array(address)),
  engine: z.string().min(1),
  threads: z.coerce.number().int().positive(),
  precision: z.enum(["f32", "bf16"]),
  loaderThreads: z.coerce.number().int().positive(),
  workDir: z.string().min(1),
  host: z.string().min(1),
  peerPort: port,
  advertise: address.optional(),
  httpPort: port.optional(),
  joinToken: z.string(),
  name: z.string().min(1).optional(),
  connectTimeout: seconds,
  reconnectTimeout: seconds,
  collectiveTimeout: seconds.optional(),
  logSamples: z.boolean().default(false),
  experiment: z.string().regex(ID_PATTERN, ID_RULE).optional(),
  stage: stageNameSchema.optional(),
  leaveWhenOver: z.boolean().default(false),
  trace: z.string().min(1).optional(),
  traceSteps: z.coerce.number().int().positive().max(TRACE_STEPS_MAX),
});

/** Where a trace of each assignment's first steps is written. */
export interface TraceConfig {
  /** Each file's own name has the generation and the rank, too. */
  readonly file: string;
  readonly steps: number;
}

export interface WorkerConfig {
  /** HOST:PORT of each. */
  readonly coordinators: readonly string[];
  readonly engine: string;
  readonly threads: number;
  readonly precision: Precision;
  readonly loaderThreads: number;
  readonly workDir: string;
  /** Interface of the peer server and of HTTP. */
  readonly host: string;
  readonly peerPort: number;
  /** HOST:PORT that peers are told; as bound when absent. */
  readonly advertise: string | undefined;
  /** No HTTP server when absent. */
  readonly httpPort: number | undefined;
  readonly joinToken: string;
  /** Of every gRPC connection; HTTP is plain text. */
  readonly transport: Transport;
  readonly name: string | undefined;
  readonly connectTimeoutMs: number;
  readonly reconnectTimeoutMs: number;
  /** Undefined: found from how long the like took lately. */
  readonly collectiveTimeoutMs: number | undefined;
  /** Every rank writes down which images each of its steps took. */
  readonly logSamples: boolean;
  /** The only work that it takes; any when undefined. */
  readonly dedication: Dedication | undefined;
  /** Undefined: no trace. */
  readonly trace: TraceConfig | undefined;
}

export interface Dedication {
  /** Of any experiment when undefined. */
  readonly experiment: string | undefined;
  /** Any stage when undefined. */
  readonly stage: StageName | undefined;
  /** The process ends, with exit status 0, when there is no more of it. */
  readonly leaveWhenOver: boolean;
}

/** Half of the cores decode, the other half computes. */
export const DEFAULT_LOADER_THREADS = Math.max(1, Math.floor(availableParallelism() / 2));

/** @throws {FleetError} USAGE naming every bad option, or what would be open to strangers */
export function parseWorkerConfig(options: unknown, transport: Transport): WorkerConfig {
  const parsed = configSchema.safeParse(options);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => `${flagOf(issue.path)}: ${issue.message}`);
    throw new FleetError("USAGE", problems.join("; "));
  }
  const { coordinator, connectTimeout, reconnectTimeout, collectiveTimeout, ...others } =
    parsed.data;
  const { experiment, stage, leaveWhenOver, trace: file, traceSteps: steps, ...rest } = others;
  const isDedicated = experiment !== undefined || stage !== undefined;
  if (leaveWhenOver && !isDedicated) {
    const problem = "there is always more of any work; give --experiment or --stage, too";
    throw new FleetError("USAGE", `--leave-when-over: ${problem}`);
  }
  checkListener(transport, rest);
  for (const one of coordinator) checkReach(transport, "--coordinator", hostOf(one));
  if (rest.advertise) checkReach(transport, "--advertise", hostOf(rest.advertise));
  return {
    ...rest,
    coordinators: coordinator,
    transport,
    advertise: rest.advertise,
    httpPort: rest.httpPort,
    name: rest.name,
    connectTimeoutMs: connectTimeout,
    reconnectTimeoutMs: reconnectTimeout,
    collectiveTimeoutMs: collectiveTimeout,
    dedication: isDedicated ? { experiment, stage, leaveWhenOver } : undefined,
    trace: file === undefined ? undefined : { file, steps },
  };
}

function flagOf(path: readonly PropertyKey[]): string {
  return `--${String(path[0]).replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
