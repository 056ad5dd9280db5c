/**
 * GET /api/stream: the fleet as it is, and then what changes, to everybody who watches. Changes are
 * gathered and told a few times a second, however many there are; a reader that was not ready for
 * some gets them with the next ones.
 */

import type { Request, RequestHandler, Response } from "express";
import { FleetError } from "../../proto/errors.ts";
import { PeerQuota } from "../../proto/peer-quota.ts";
import type { ControlRefusals } from "../control/refusal-reasons.ts";
import { EventStream } from "./event-stream.ts";
import { FleetWatch, type Moment } from "./fleet-changes.ts";
import type { FleetSource } from "./fleet-view.ts";
import type { HttpLimits } from "./http-limits.ts";

const TELL_MS = 500;

export interface FleetStreamOptions {
  readonly source: FleetSource;
  readonly moment: () => Promise<Moment>;
  readonly limits: Pick<HttpLimits, "streams" | "streamStallMs">;
  readonly refusals: ControlRefusals;
}

interface Reader {
  readonly stream: EventStream;
  readonly watch: FleetWatch;
}

export class FleetStream {
  readonly #options: FleetStreamOptions;
  readonly #quota: PeerQuota;
  readonly #readers = new Set<Reader>();
  #timer: NodeJS.Timeout | undefined;
  #isTelling = false;

  constructor(options: FleetStreamOptions) {
    this.#options = options;
    this.#quota = new PeerQuota(options.limits.streams);
  }

  /** The handler; `?experiment=ID` adds everything about that one. */
  readonly open: RequestHandler = async (request, response) => {
    const leave = this.#enter(request);
    const { experiment } = request.query;
    const detailOf = typeof experiment === "string" ? experiment : undefined;
    response.once("close", leave);
    const moment = await this.#options.moment();
    if (response.destroyed) return;
    this.#begin(request, response, new FleetWatch(this.#options.source, detailOf), moment);
  };

  close(): void {
    for (const { stream } of [...this.#readers]) stream.close();
    clearInterval(this.#timer);
  }

  /** @throws {FleetError} OVERLOADED */
  #enter({ socket }: Request): () => void {
    const { limits, refusals } = this.#options;
    const peer = socket.remoteAddress ?? "";
    const leave = this.#quota.take(peer);
    if (leave) return leave;
    const { perPeer, total } = limits.streams;
    const because = `too many event streams (${perPeer} of one address, ${total} in all)`;
    refusals.add("overloaded", { peer, because });
    throw new FleetError("OVERLOADED", because);
  }

  #begin(request: Request, response: Response, watch: FleetWatch, moment: Moment): void {
    const { limits, refusals } = this.#options;
    const peer = request.socket.remoteAddress;
    const stallMs = limits.streamStallMs;
    const stream = new EventStream(request, response, {
      stallMs,
      onStall: () => {
        refusals.add("slow-reader", { peer, because: `nothing was read for ${stallMs} ms` });
      },
      onClose: () => this.#end(reader),
    });
    const reader: Reader = { stream, watch };
    stream.send("snapshot", watch.snapshot(moment));
    this.#readers.add(reader);
    this.#timer ??= setInterval(() => void this.#tell(), TELL_MS);
  }

  #end(reader: Reader): void {
    this.#readers.delete(reader);
    if (this.#readers.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  async #tell(): Promise<void> {
    if (this.#isTelling) return;
    this.#isTelling = true;
    const moment = await this.#options.moment().finally(() => {
      this.#isTelling = false;
    });
    for (const { stream, watch } of this.#readers) {
      if (!stream.isReady) continue;
      const change = watch.change(moment);
      if (change) stream.send("change", change);
    }
  }
}
