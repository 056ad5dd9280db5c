import type { PullCall } from "./peer-service.ts";

/**
 * What may wait for a receiver that does not keep up. Bulk data waits for {@link Outlet.isReady},
 * and all that ranks exchange in one go on the small lane is far less.
 */
const QUEUED_BYTES_MAX = 64 * 1024 * 1024;

export interface OutletEvents {
  /** After `isReady` was false: the receiver takes more. */
  drain(): void;
  /** The receiver has left too much unread; nothing more is sent. */
  stuck(): void;
  /** Nothing can be sent any more, be it that this side ended the stream or that it broke. */
  over(): void;
}

/** This worker's end of a stream that a peer pulls. */
export class Outlet {
  /** Resolves when nothing of the stream is left. */
  readonly closed: Promise<void>;
  readonly #call: PullCall;
  readonly #onStuck: () => void;
  readonly #cutConnection: () => void;
  #queuedBytes = 0;
  #isOver = false;
  #isClosed = false;

  /** @param cutConnection closes the connection under the call, whoever may not be reading */
  constructor(call: PullCall, events: OutletEvents, cutConnection: () => void) {
    this.#call = call;
    this.#onStuck = () => events.stuck();
    this.#cutConnection = cutConnection;
    call.on("drain", () => events.drain());
    // gRPC emits it whenever the call is over, for whatever reason.
    this.closed = new Promise((resolve) => {
      call.once("cancelled", () => {
        this.#isOver = true;
        this.#isClosed = true;
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
    if (this.#isOver || this.#call.writableEnded) return;
    if (this.#queuedBytes + frame.length > QUEUED_BYTES_MAX) {
      this.#isOver = true;
      this.#onStuck();
      return;
    }
    this.#queuedBytes += frame.length;
    this.#call.write(frame, () => {
      this.#queuedBytes -= frame.length;
      written?.();
    });
  }

  /** Drops what the receiver has not read, if the stream is still open. */
  cut(): void {
    if (!this.#isClosed) this.#cutConnection();
  }

  /** Ends the stream behind what was written. */
  end(): void {
    if (!this.#isOver && !this.#call.writableEnded) this.#call.end();
  }
}
