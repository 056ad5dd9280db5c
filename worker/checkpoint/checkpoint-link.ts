/**
 * What joins an engine thread, the checkpoint thread and the main thread for one stage.
 *
 * The engine thread copies its state into one of two slots of shared memory and goes on. A slot is
 * being written, waits for that, or is the engine's; the engine takes a waiting one back to put a
 * newer state there. So at most one checkpoint is being written, and at most one waits. A request
 * carries the number that its slot's word has: one whose number is no longer there was replaced.
 */

import type { MessagePort } from "node:worker_threads";
import type { PlainError } from "../../proto/errors.ts";
import type { Snapshot } from "./checkpoint-store.ts";

export interface CheckpointLink {
  /** Takes {@link SaveRequest}s, gives {@link SaveAnswer}s. Moves to the engine thread. */
  readonly port: MessagePort;
  /** {@link LINK_WORDS} words, by the indices below. */
  readonly words: Int32Array<SharedArrayBuffer>;
}

/** Words 0 to SLOTS - 1: what becomes of a slot; a positive one is the request that waits. */
export const SLOTS = 2;
export const SLOT_IS_ENGINES = 0;
export const SLOT_IS_WRITTEN = -1;
/** Number of the newest request. */
export const LINK_ASKED = 2;
/** Number of the newest request that was dealt with. Notified whenever it changes. */
export const LINK_SETTLED = 3;
/** 1 once the checkpoint thread is no more. */
export const LINK_DIED = 4;
export const LINK_WORDS = 5;

/** From the engine thread. The tensors lie in the slot. */
export interface SaveRequest {
  readonly number: number;
  readonly slot: number;
  readonly snapshot: Snapshot;
  /** Whether nothing follows that could do better: then a failure is followed by a few retries. */
  readonly isLast: boolean;
  /** How long training stood still for the copy. */
  readonly copySeconds: number;
}

/** To the engine thread, before {@link LINK_SETTLED} changes. */
export interface SaveAnswer {
  readonly number: number;
  readonly error: PlainError | undefined;
}

/** From the main thread to the checkpoint thread. */
export type CheckpointThreadRequest =
  | { readonly type: "open"; readonly stage: OpenStage }
  /** Once nothing of the stage waits any more. */
  | { readonly type: "close"; readonly id: number };

export interface OpenStage {
  readonly id: number;
  readonly link: CheckpointLink;
  readonly store: string;
  /** Checkpoints to keep. */
  readonly keep: number;
}

/** What has become of a checkpoint. */
export type SaveEvent =
  | {
      readonly type: "checkpoint";
      readonly step: number;
      readonly bytes: number;
      /** From the first byte until the disk has it. */
      readonly seconds: number;
      readonly copySeconds: number;
    }
  | {
      readonly type: "checkpoint-failed";
      readonly step: number;
      readonly error: PlainError;
    };

/** From the checkpoint thread to the main thread, after {@link LINK_SETTLED} has changed. */
export interface CheckpointThreadMessage {
  readonly id: number;
  /** Of the request that was dealt with. */
  readonly number: number;
  readonly event: SaveEvent;
}
