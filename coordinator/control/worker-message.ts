/**
 * What workers say, checked and turned into our own types. Nothing that a worker sends is believed
 * before it has passed here; what it says about experiments is checked against its membership
 * later.
 */

import { z } from "zod";
import { ERROR_SPECS, type ErrorCode, FleetError } from "../../proto/errors.ts";
import type {
  CoordinatorMessage,
  Progress,
  Register,
  Running as WireRunning,
  WorkerMessage,
} from "../../proto/gen/coordinator.ts";
import { checkJoinToken } from "../../proto/join-token.ts";
import {
  ID_PATTERN,
  ID_RULE,
  NEIGHBOURS_LENGTH_MAX,
  RANKS_MAX,
  TEXT_LENGTH_MAX,
} from "../../proto/limits.ts";
import { PROTOCOL_VERSION } from "../../proto/version.ts";
import type { StageProgress } from "../experiment/experiment.ts";
import type { WorkerFacts } from "../member/member.ts";
import type { CoordinatorSays, Running, WorkerSays } from "../scheduling/scheduler-events.ts";
import { parseDedication } from "./dedication-message.ts";
import { fromWireStage, toWireStage } from "./wire-names.ts";

const RESULT_LENGTH_MAX = 1_000_000;
/** Generations and epochs are counted on from what a worker says: there has to be room above. */
export const COUNTER_MAX = 2 ** 48;

export const id = z.string().regex(ID_PATTERN, ID_RULE);
const label = z.string().max(200);
const text = z.string().transform((value) => value.slice(0, TEXT_LENGTH_MAX));
export const count = z.int().nonnegative();
const ranks = z.array(count).max(RANKS_MAX);
const finite = z.number();

const registerSchema = z.object({
  workerId: id,
  name: label,
  peerAddress: z.string().regex(/^.{1,255}:\d{1,5}$/, "must be HOST:PORT"),
  engine: label.min(1),
  device: label,
  threads: count,
  softwareVersion: label,
  epochSeen: count.max(COUNTER_MAX),
  memberForMs: count.max(COUNTER_MAX),
});

const generationSchema = z.object({
  experimentId: id,
  generation: z.int().positive().max(COUNTER_MAX),
});

const progressSchema = z.object({
  step: count,
  stepsTotal: count,
  epoch: finite,
  epochsTotal: count,
  loss: finite,
  lr: finite,
  imagesPerSecond: finite,
  etaSeconds: finite,
  top1: finite.optional(),
  top5: finite.optional(),
  skippedImages: count,
  checkpointStep: count.optional(),
  allReduceSeconds: z.number().nonnegative().optional(),
  allReduceHidden: z.number().min(0).max(1).optional(),
  lossBound: finite.optional(),
  lossAtBound: z.boolean().optional(),
  knn: z
    .array(z.object({ neighbours: count, top1: finite, top5: finite }))
    .max(NEIGHBOURS_LENGTH_MAX),
  probeTop1: finite.optional(),
  probeTop5: finite.optional(),
  storageProblem: text.optional(),
  checkpointFailures: count,
  trainingSeconds: z.number().nonnegative().optional(),
});

const timesSchema = z.object({
  ownStepSeconds: z.number().nonnegative(),
  dataSeconds: z.number().nonnegative(),
});

const failureSchema = z.object({
  code: z
    .string()
    .transform((code): ErrorCode => (code in ERROR_SPECS ? (code as ErrorCode) : "UNEXPECTED")),
  message: text,
  unixMs: count,
  step: count,
});

/**
 * Checks a worker's first message, which came at `nowUnixMs`.
 *
 * @throws {FleetError} USAGE, VERSION_MISMATCH, JOIN_REFUSED
 */
export function parseRegister(
  message: WorkerMessage,
  { joinToken, nowUnixMs }: { readonly joinToken: string; readonly nowUnixMs: number },
): { readonly facts: WorkerFacts; readonly epochSeen: number; readonly running?: Running } {
  if (message.message?.$case !== "register") {
    throw new FleetError("USAGE", "the first message of a session must be `register`");
  }
  const register: Register = message.message.value;
  if (register.protocolVersion !== PROTOCOL_VERSION) {
    throw new FleetError(
      "VERSION_MISMATCH",
      `the worker speaks protocol version ${register.protocolVersion}, this coordinator ` +
        `${PROTOCOL_VERSION}; install the same version of simclr-fleet on both sides`,
      { worker: register.protocolVersion, coordinator: PROTOCOL_VERSION },
    );
  }
  checkJoinToken(register.joinToken, joinToken);
  const checked = check(registerSchema, register, "register");
  const { workerId, epochSeen, memberForMs, ...facts } = checked;
  const { dedication } = register;
  return {
    facts: {
      ...{ id: workerId, ...facts, sinceUnixMs: nowUnixMs - memberForMs },
      ...(dedication ? { dedication: parseDedication(dedication) } : {}),
    },
    epochSeen,
    ...(register.running ? { running: parseRunning(register.running) } : {}),
  };
}

/**
 * Checks every later message.
 *
 * @throws {FleetError} USAGE
 */
export function parseWorkerMessage({ message }: WorkerMessage): WorkerSays {
  switch (message?.$case) {
    case "heartbeat": {
      const { running, rssBytes, times } = message.value;
      return {
        type: "heartbeat",
        rssBytes: check(count, rssBytes, "heartbeat.rss_bytes"),
        ...(running ? { running: parseRunning(running) } : {}),
        ...(times ? { times: check(timesSchema, times, "heartbeat.times") } : {}),
      };
    }
    case "draining":
      return { type: "draining", because: check(text, message.value.because, "draining.because") };
    case "progress": {
      const generation = check(generationSchema, message.value, "progress");
      return { type: "progress", ...generation, progress: parseProgress(message.value) };
    }
    case "result": {
      const generation = check(generationSchema, message.value, "result");
      const resultJson = parseResult(message.value.resultJson);
      return { type: "result", ...generation, ...(resultJson === undefined ? {} : { resultJson }) };
    }
    case "failure": {
      const generation = check(generationSchema, message.value, "failure");
      const failure = check(failureSchema, message.value, "failure");
      return { type: "failure", ...generation, ...failure };
    }
    case "stopped": {
      const generation = check(generationSchema, message.value, "stopped");
      const step = check(count, message.value.step, "stopped.step");
      const because = check(text, message.value.because, "stopped.because");
      const lostRanks = check(ranks, message.value.lostRanks, "stopped.lost_ranks");
      const kept = check(count.optional(), message.value.checkpointStep, "stopped.checkpoint_step");
      const checkpoint = kept === undefined ? {} : { checkpointStep: kept };
      return { type: "stopped", ...generation, step, because, lostRanks, ...checkpoint };
    }
    case "register":
      throw new FleetError("USAGE", "register: the worker has registered already");
    case "logLines":
    case undefined:
      throw new FleetError("USAGE", "the message is empty or of a later version");
  }
}

/** What the coordinator says, in the wire's form. */
export function toCoordinatorMessage(
  says: CoordinatorSays,
  formationTimeoutMs: number,
): CoordinatorMessage {
  switch (says.type) {
    case "assignment": {
      const { experimentId, generation, rank, recipeJson } = says;
      const value = {
        experimentId,
        stage: toWireStage(says.stage),
        generation,
        rank,
        peers: [...says.peers],
        recipeJson,
        formationTimeoutMs,
      };
      return { message: { $case: "assignment", value } };
    }
    case "abort": {
      const { type: _, ...value } = says;
      return { message: { $case: "abort", value } };
    }
    case "dismiss":
      return { message: { $case: "dismiss", value: { because: says.because } } };
  }
}

function parseRunning(running: WireRunning): Running {
  const generation = check(generationSchema, running, "running");
  const step = check(count, running.step, "running.step");
  return { ...generation, stage: fromWireStage(running.stage), step };
}

function parseProgress(progress: Progress): StageProgress {
  const checked = check(progressSchema, progress, "progress");
  return { ...withoutAbsent(checked), stage: fromWireStage(progress.stage) };
}

/** The wire's types have a key for a field that is absent; ours do not. */
function withoutAbsent<T extends object>(value: T): Present<T> {
  const present = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(present) as Present<T>;
}

type Present<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/**
 * A result that is no JSON object is dropped, not refused: the stage has come to its end with it.
 */
function parseResult(json: string): string | undefined {
  if (json === "" || json.length > RESULT_LENGTH_MAX) return undefined;
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? json : undefined;
  } catch {
    return undefined;
  }
}

/** @throws {FleetError} USAGE naming the field */
export function check<Output>(schema: z.ZodType<Output>, value: unknown, name: string): Output {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const at = [name, ...(issue?.path ?? [])].join(".");
  throw new FleetError("USAGE", `${at}: ${issue?.message ?? "is invalid"}`);
}
