/**
 * Entry of the checkpoint thread: writes what engine threads have copied, one after the other. It
 * blocks while it writes; nothing waits for it but the end of a stage.
 */

import { setTimeout as delay } from "node:timers/promises";
import { parentPort } from "node:worker_threads";
import { STORAGE_PAUSES_MS } from "../../proto/durable-file.ts";
import { FleetError } from "../../proto/errors.ts";
import { assertFinite } from "./assert-finite.ts";
import {
  type CheckpointThreadMessage,
  type CheckpointThreadRequest,
  LINK_SETTLED,
  type OpenStage,
  type SaveAnswer,
  type SaveEvent,
  type SaveRequest,
  SLOT_IS_ENGINES,
  SLOT_IS_WRITTEN,
} from "./checkpoint-link.ts";
import { saveCheckpoint } from "./checkpoint-store.ts";

let turn: Promise<void> = Promise.resolve();

const stages = new Map<number, OpenStage>();

parentPort?.on("message", (message: CheckpointThreadRequest) => {
  if (message.type === "open") open(message.stage);
  else close(message.id);
});

function open(stage: OpenStage): void {
  stages.set(stage.id, stage);
  stage.link.port.on("message", (request: SaveRequest) => {
    turn = turn.then(() => serve(stage, request));
  });
}

function close(id: number): void {
  stages.get(id)?.link.port.close();
  stages.delete(id);
}

async function serve(stage: OpenStage, request: SaveRequest): Promise<void> {
  const { port, words } = stage.link;
  const { number, slot } = request;
  const found = Atomics.compareExchange(words, slot, number, SLOT_IS_WRITTEN);
  if (found !== number) return;
  const event = await save(stage, request);
  const error = event.type === "checkpoint-failed" ? event.error : undefined;
  port.postMessage({ number, error } satisfies SaveAnswer);
  Atomics.store(words, slot, SLOT_IS_ENGINES);
  Atomics.store(words, LINK_SETTLED, number);
  Atomics.notify(words, LINK_SETTLED);
  parentPort?.postMessage({ id: stage.id, number, event } satisfies CheckpointThreadMessage);
}

async function save(stage: OpenStage, request: SaveRequest): Promise<SaveEvent> {
  const { snapshot, copySeconds } = request;
  const { step } = snapshot.manifest;
  const started = performance.now();
  try {
    assertFinite(snapshot.model, step);
    const bytes = await attempt(stage, request);
    return { type: "checkpoint", step, bytes, copySeconds, seconds: secondsSince(started) };
  } catch (thrown) {
    const error = FleetError.from(thrown).toPlain();
    return { type: "checkpoint-failed", step, error };
  }
}

/** @returns bytes written */
async function attempt({ store, keep }: OpenStage, request: SaveRequest): Promise<number> {
  for (const pause of request.isLast ? STORAGE_PAUSES_MS : []) {
    try {
      return saveCheckpoint(store, request.snapshot, keep).bytes;
    } catch (thrown) {
      if (FleetError.from(thrown).code !== "STORAGE_FAILED") throw thrown;
      await delay(pause);
    }
  }
  return saveCheckpoint(store, request.snapshot, keep).bytes;
}

function secondsSince(startedMs: number): number {
  return (performance.now() - startedMs) / 1000;
}
