/**
 * Server-sent events to one reader. A reader that is slower than the events gets no queue: whoever
 * sends asks first whether it is ready. One that has stopped reading is cut off.
 */

import type { Request, Response } from "express";

/** A connection over which nothing comes is closed by proxies, and opened anew by the page. */
const HEARTBEAT_MS = 15_000;
const RECONNECT_MS = 2_000;

export interface EventStreamOptions {
  /** How long the reader may leave unread what is there for it. */
  readonly stallMs: number;
  readonly onStall: () => void;
  /** Once, however it comes to its end. */
  readonly onClose: () => void;
}

export class EventStream {
  readonly #response: Response;
  readonly #options: EventStreamOptions;
  readonly #heartbeat: NodeJS.Timeout;
  #stall: NodeJS.Timeout | undefined;
  #lastId = 0;

  constructor(request: Request, response: Response, options: EventStreamOptions) {
    this.#response = response;
    this.#options = options;
    // It has nothing to say for long, and is told from a dead one by its heartbeats.
    request.socket.setTimeout(0);
    response.writeHead(200, {
      "Content-Type": "text/event-stream",
      "Cache-Control": "no-store",
      "X-Accel-Buffering": "no",
      Connection: "close",
    });
    this.#write(`retry: ${RECONNECT_MS}\n\n`);
    this.#heartbeat = setInterval(() => this.#write("event: alive\ndata: {}\n\n"), HEARTBEAT_MS);
    response.once("close", () => this.#closed());
  }

  /** Whether the reader has taken what was sent so far. */
  get isReady(): boolean {
    return this.#stall === undefined && !this.#response.destroyed;
  }

  send(event: string, data: object): void {
    this.#lastId += 1;
    this.#write(`id: ${this.#lastId}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  close(): void {
    this.#response.destroy();
  }

  #write(text: string): void {
    if (this.#response.destroyed || this.#response.write(text) || this.#stall) return;
    this.#stall = setTimeout(() => {
      this.#options.onStall();
      this.#response.destroy();
    }, this.#options.stallMs);
    this.#response.once("drain", () => {
      clearTimeout(this.#stall);
      this.#stall = undefined;
    });
  }

  #closed(): void {
    clearInterval(this.#heartbeat);
    clearTimeout(this.#stall);
    this.#options.onClose();
  }
}
