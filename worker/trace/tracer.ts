/**
 * Where the time of the first steps goes, span by span, as a thread sees it. Only a worker that
 * writes a trace has one. Threads and processes share a time base: microseconds since 1970, of
 * which no two threads of a process disagree.
 */

import { performance } from "node:perf_hooks";

/** Something that took a while on one thread. */
export interface TraceSpan {
  readonly name: string;
  /** Whole microseconds since 1970, so that what lies within something else also does rounded. */
  readonly beginUs: number;
  readonly endUs: number;
  readonly facts?: Readonly<Record<string, string | number>>;
}

/** @param beginMs and endMs by `performance.now()` of this thread */
export function toSpan(
  name: string,
  { beginMs, endMs }: { readonly beginMs: number; readonly endMs: number },
  facts?: TraceSpan["facts"],
): TraceSpan {
  return { name, beginUs: toUs(beginMs), endUs: toUs(endMs), ...(facts && { facts }) };
}

function toUs(ms: number): number {
  return Math.floor(1_000 * (performance.timeOrigin + ms));
}

/** Shorter spans of {@link Tracer.time} are left out: there was nothing to do. */
const TIMED_MS_MIN = 0.05;

export interface TracerOptions {
  /** To trace; later ones cost nothing. */
  readonly steps: number;
  /** Gets the spans of a step once it is over, what contains before what is contained. */
  readonly send: (spans: readonly TraceSpan[], options: { readonly isLast: boolean }) => void;
}

export class Tracer {
  readonly #send: TracerOptions["send"];
  #spans: TraceSpan[] = [];
  #stepsLeft: number;

  constructor({ steps, send }: TracerOptions) {
    this.#stepsLeft = steps;
    this.#send = send;
  }

  /** Takes a span that ends now; `beginMs` by `performance.now()`. */
  end(name: string, beginMs: number, facts?: TraceSpan["facts"]): void {
    this.add(name, { beginMs, endMs: performance.now() }, facts);
  }

  /** Takes a span, by `performance.now()`. */
  add(
    name: string,
    time: { readonly beginMs: number; readonly endMs: number },
    facts?: TraceSpan["facts"],
  ): void {
    if (this.#stepsLeft > 0) this.#spans.push(toSpan(name, time, facts));
  }

  /** Ends a step: what it had is sent. */
  endStep(): void {
    this.#stepsLeft = Math.max(0, this.#stepsLeft - 1);
    this.flush();
  }

  /** Sends what there is. */
  flush(): void {
    const spans = this.#spans.toSorted((a, b) => a.beginUs - b.beginUs || b.endUs - a.endUs);
    this.#spans = [];
    if (spans.length > 0) this.#send(spans, { isLast: this.#stepsLeft === 0 });
  }

  /** Does work that may be nothing, and takes its time if it was something. */
  time<Result>(name: string, work: () => Result): Result {
    const beginMs = performance.now();
    const result = work();
    if (performance.now() - beginMs >= TIMED_MS_MIN) this.end(name, beginMs);
    return result;
  }
}
