import type { PullCall } from "./peer-service.ts";

export interface OutletEvents {
  /** After `isReady` was false: the receiver takes more. */
  drain(): void;
  /** Nothing can be sent any more, be it that this side ended the stream or that it broke. */
  over(): void;
}

/** This worker's end of a stream that a peer pulls. */
export class Outlet {
  /** Resolves when nothing of the stream is left. */
  readonly closed: Promise<void>;
  readonly #call: PullCall;
  #isOver = false;

  constructor(call: PullCall, events: OutletEvents) {
    this.#call = call;
    call.on("drain", () => events.drain());
    // gRPC emits it whenever the call is over, for whatever reason.
    this.closed = new Promise((resolve) => {
      call.once("cancelled", () => {
        this.#isOver = true;
        resolve();
        events.over();
      });
    });
  }

  /** Whether the receiver keeps up; what is written all the same waits in memory. */
  get isReady(): boolean {
    return !this.#isOver && !this.#call.writableNeedDrain;
  }

  /**
   * Dropped silently once the stream is over: `events.over` has told.
   *
   * @param written called when the frame has been copied and may be overwritten; never, if dropped
   */
  write(frame: Buffer, written?: () => void): void {
    if (!this.#isOver && !this.#call.writableEnded) this.#call.write(frame, written);
  }

  /** Ends the stream behind what was written. */
  end(): void {
    if (!this.#isOver && !this.#call.writableEnded) this.#call.end();
  }
}
