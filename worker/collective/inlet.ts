import { type Client, type ServiceError, status } from "@grpc/grpc-js";
import type { ErrorCode } from "../../proto/errors.ts";
import type { PullRequest } from "../../proto/gen/peer.ts";
import { trustProblem } from "../../proto/grpc-errors.ts";
import { type PullStream, pull, refusalOf } from "./peer-service.ts";

/** Pause before a peer that has not joined yet, or does not listen yet, is asked again. */
const RETRY_MS = 50;

export interface InletEvents {
  message(bytes: Buffer): void;
  /** The stream is over. Whether it was whole is for the messages to tell. */
  over(because: string): void;
  /** The peer will never serve this stream. */
  refused(code: ErrorCode, message: string): void;
}

/** This worker's end of a stream that it pulls from a peer: asks until the peer answers. */
export class Inlet {
  /** Why the last attempt failed, for the message when time runs out. */
  lastFailure = "";
  readonly #client: Client;
  readonly #request: PullRequest;
  readonly #events: InletEvents;
  #stream: PullStream | undefined;
  #retry: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** @param client is closed with the inlet */
  constructor(client: Client, request: PullRequest, events: InletEvents) {
    this.#client = client;
    this.#request = request;
    this.#events = events;
    this.#attempt();
  }

  /** Takes no more messages for now; the sender is held back once the window is full. */
  pause(): void {
    this.#stream?.pause();
  }

  resume(): void {
    this.#stream?.resume();
  }

  /** Leaves no timer, stream or socket. No event follows. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    this.#stream?.cancel();
    this.#client.close();
  }

  #attempt(): void {
    const stream = pull(this.#client, this.#request);
    this.#stream = stream;
    let isAnswered = false;
    stream.on("data", (bytes: Buffer) => {
      isAnswered = true;
      if (!this.#isClosed) this.#events.message(bytes);
    });
    stream.on("error", (error: ServiceError) => {
      if (this.#isClosed) return;
      if (isAnswered) this.#events.over(error.details);
      else this.#fail(error);
    });
    stream.on("end", () => {
      if (!this.#isClosed && isAnswered) this.#events.over("its stream ended");
    });
  }

  #fail(error: ServiceError): void {
    const code = refusalOf(error);
    if (code !== undefined) {
      this.#events.refused(code, error.details);
      return;
    }
    const problem = trustProblem(error.details);
    if (problem !== undefined) {
      this.#events.refused("TLS_REFUSED", problem);
      return;
    }
    if (error.code !== status.UNAVAILABLE) {
      this.#events.refused("UNEXPECTED", error.message);
      return;
    }
    this.lastFailure = error.details;
    this.#retry = setTimeout(() => this.#attempt(), RETRY_MS);
  }
}
