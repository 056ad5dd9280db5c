/**
 * Messages about a stage that their sender does not hold. Some are only late. They change nothing,
 * as whoever gets them compares generations; here they are told apart, to be counted. Pure.
 */

import type { Member } from "../member/member.ts";
import type { WorkerSays } from "../scheduling/scheduler-events.ts";
import type { RefusalReason } from "./refusal-reasons.ts";

/** Why `sender` has no say in what the message is about; undefined if it has. */
export function strayReason(
  message: WorkerSays,
  sender: Member | undefined,
): Extract<RefusalReason, "unassigned" | "foreign-generation"> | undefined {
  if (!("generation" in message)) return undefined;
  if (sender?.status !== "busy") return "unassigned";
  const { experimentId, generation } = sender.assignment;
  const isOwn = message.experimentId === experimentId && message.generation === generation;
  return isOwn ? undefined : "foreign-generation";
}
