/** A group whose collectives show in the trace, as the engine thread waits for them. */

import { performance } from "node:perf_hooks";
import type { ProcessGroup, SharedFloats, Work } from "../collective/process-group.ts";
import type { Tracer } from "../trace/tracer.ts";
import type { StageContext } from "./stage-context.ts";

/** The group of a stage, for one purpose: the trace, if there is one, calls its collectives so. */
export function groupFor({ group, tracer }: StageContext, purpose: string): ProcessGroup {
  return tracer ? new TracedGroup(group, tracer, purpose) : group;
}

class TracedGroup implements ProcessGroup {
  readonly #group: ProcessGroup;
  readonly #tracer: Tracer;
  readonly #purpose: string;

  constructor(group: ProcessGroup, tracer: Tracer, purpose: string) {
    this.#group = group;
    this.#tracer = tracer;
    this.#purpose = purpose;
  }

  get rank(): number {
    return this.#group.rank;
  }

  get worldSize(): number {
    return this.#group.worldSize;
  }

  get allReduceSeconds(): number {
    return this.#group.allReduceSeconds;
  }

  get waitedSeconds(): number {
    return this.#group.waitedSeconds;
  }

  allocate(length: number): SharedFloats {
    return this.#group.allocate(length);
  }

  /** What goes on beside the engine thread is traced where it runs: here its begin and its end. */
  allReduce(buffer: SharedFloats): Work {
    return this.#start("all-reduce", buffer, () => this.#group.allReduce(buffer));
  }

  reduceScatter(buffer: SharedFloats): Work {
    return this.#start("reduce-scatter", buffer, () => this.#group.reduceScatter(buffer));
  }

  allGather(own: Float32Array): Float32Array {
    return this.#block("all-gather", own, () => this.#group.allGather(own));
  }

  broadcast(buffer: SharedFloats, root: number): void {
    this.#block("broadcast", buffer, () => this.#group.broadcast(buffer, root));
  }

  barrier(): void {
    this.#block("barrier", { byteLength: 0 }, () => this.#group.barrier());
  }

  #start(kind: string, buffer: SharedFloats, start: () => Work): Work {
    const work = this.#block(kind, buffer, start);
    return { wait: () => this.#block(`wait for ${kind}`, buffer, () => work.wait()) };
  }

  #block<Result>(
    kind: string,
    { byteLength: bytes }: { readonly byteLength: number },
    work: () => Result,
  ): Result {
    const beginMs = performance.now();
    const result = work();
    this.#tracer.end(`${this.#purpose}: ${kind}`, beginMs, { bytes });
    return result;
  }
}
