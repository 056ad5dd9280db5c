/**
 * Calls that stay open for an operator: how many there may be, and what becomes of a reader that
 * does not read.
 */

import type { ServerWritableStream } from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import { toServiceError } from "../../proto/grpc-errors.ts";
import type { Connections } from "../../proto/grpc-listener.ts";
import { PeerQuota } from "../../proto/peer-quota.ts";
import { hostOf } from "../../proto/transport.ts";
import type { ControlLimits } from "./control-limits.ts";
import { type ControlRefusals, refusalReason } from "./refusal-reasons.ts";

export interface StreamOptions {
  readonly limits: Pick<ControlLimits, "watchers" | "watchStallMs">;
  readonly refusals: ControlRefusals;
  readonly connections: Connections;
}

/**
 * A handler that keeps count of its readers, and reports what `serve` throws at once.
 *
 * @param what they do, for people
 */
export function forReaders<Request, Response>(
  what: string,
  { limits, refusals }: StreamOptions,
  serve: (call: ServerWritableStream<Request, Response>) => void,
): (call: ServerWritableStream<Request, Response>) => void {
  const readers = new PeerQuota(limits.watchers);
  return (call) => {
    try {
      call.once("cancelled", enter(readers, call.getPeer(), what, limits));
      serve(call);
    } catch (thrown) {
      const error = FleetError.from(thrown);
      const { code, message: because } = error;
      if (code === "OVERLOADED")
        refusals.add(refusalReason(code), { peer: call.getPeer(), because });
      call.emit("error", toServiceError(error));
    }
  };
}

function enter(
  readers: PeerQuota,
  peer: string,
  what: string,
  { watchers }: Pick<ControlLimits, "watchers">,
): () => void {
  const leave = readers.take(hostOf(peer));
  if (leave) return leave;
  const bound = `${watchers.perPeer} of one address, ${watchers.total} in all`;
  throw new FleetError("OVERLOADED", `too many ${what} (${bound})`);
}

/** Cuts a reader off that has not read for {@link ControlLimits.watchStallMs}. */
export function cutOff<Request extends { readonly experimentId: string }>(
  call: ServerWritableStream<Request, unknown>,
  { limits, refusals, connections }: StreamOptions,
): void {
  const peer = call.getPeer();
  const because = `nothing was read for ${limits.watchStallMs} ms`;
  refusals.add("slow-reader", { peer, experiment: call.request.experimentId, because });
  call.emit("error", toServiceError(new FleetError("OVERLOADED", because)));
  connections.cut(peer);
}
