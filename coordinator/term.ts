/**
 * A coordinator's time in office: it stands by until it leads, takes over what its predecessor has
 * left, and ends when another one leads.
 *
 *   standing-by ---> taking-over ---> leading ---> ended
 */

import { FleetError } from "../proto/errors.ts";
import type { Log } from "../proto/log.ts";
import type { Scheduler } from "./scheduling/scheduler.ts";
import { type Candidate, LOOK_MS } from "./store/leadership.ts";
import type { Store } from "./store/store.ts";

export type Role =
  /** `leader` is the address of the coordinator that it stands by for. */
  | { readonly status: "standing-by"; readonly leader: string }
  | { readonly status: "taking-over" }
  | { readonly status: "leading" }
  | { readonly status: "ended"; readonly error: FleetError };

export class Term {
  /** Rejects when the term ends by itself: LEADERSHIP_LOST, or what kept it from taking over. */
  readonly ended: Promise<never>;
  readonly #store: Store;
  readonly #scheduler: Scheduler;
  readonly #log: Log;
  readonly #leaseMs: number;
  readonly #end: (error: FleetError) => void;
  readonly #closing = new AbortController();
  #role: Role = { status: "taking-over" };
  #address = "";
  #waiting: Promise<unknown> = Promise.resolve();
  /** Until when workers may be on their way; by `performance.now()`. */
  #gatheredMs = 0;

  constructor(options: {
    readonly store: Store;
    readonly scheduler: Scheduler;
    readonly log: Log;
    readonly leaseMs: number;
  }) {
    this.#store = options.store;
    this.#scheduler = options.scheduler;
    this.#log = options.log;
    this.#leaseMs = options.leaseMs;
    let reject!: (error: FleetError) => void;
    this.ended = new Promise((_, onReject) => {
      reject = onReject;
    });
    // Whoever awaits `ended` sees a rejection; it must not count as unhandled before that.
    this.ended.catch(() => {});
    this.#end = (error) => {
      this.#role = { status: "ended", error };
      this.#scheduler.close({ dismiss: false });
      reject(error);
    };
    void options.store.leadership.lost.then(this.#end);
  }

  get role(): Role {
    return this.#role;
  }

  /** Whether workers that a predecessor had may still be on their way here. */
  get isGathering(): boolean {
    return performance.now() < this.#gatheredMs;
  }

  /**
   * Takes the lead, or stands by for whoever has it and takes it later.
   *
   * @throws {FleetError} REDIS_UNREACHABLE
   */
  async begin(candidate: Candidate): Promise<void> {
    this.#address = candidate.address;
    const leader = await this.#store.leadership.campaign(candidate);
    if (leader === undefined) return await this.#takeOver();
    this.#standBy(leader);
    const taken = this.#wait(candidate).then(async (isWon) => {
      if (isWon) await this.#takeOver();
    });
    this.#waiting = taken.catch((thrown) => this.#end(FleetError.from(thrown)));
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#scheduler.close({ dismiss: false });
    await this.#waiting;
  }

  /** Why it is not ready, for people; empty when it leads. */
  problems(): readonly string[] {
    const role = this.#role;
    switch (role.status) {
      case "standing-by":
        return [`stands by for the coordinator at ${role.leader}`];
      case "taking-over":
        return ["is taking over"];
      case "leading":
        return [];
      case "ended":
        return [role.error.message];
    }
  }

  /** @throws {FleetError} COORDINATOR_UNREACHABLE unless it leads, LEADERSHIP_LOST after that */
  check(): void {
    const role = this.#role;
    if (role.status === "leading") return;
    if (role.status === "ended") throw role.error;
    const [problem = ""] = this.problems();
    throw new FleetError("COORDINATOR_UNREACHABLE", `the one at ${this.#address} ${problem}`);
  }

  #standBy(leader: string): void {
    if (this.#role.status === "standing-by" && this.#role.leader === leader) return;
    this.#role = { status: "standing-by", leader };
    this.#log.info({ event: "stands by", leader });
  }

  /** Looks until the lead is free; false when it was closed before that. */
  async #wait(candidate: Candidate): Promise<boolean> {
    const { leadership } = this.#store;
    while (!this.#closing.signal.aborted) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      // While Redis is away nobody can take over; its connection reports that.
      const leader = await leadership.campaign(candidate).catch(() => "");
      if (leader === undefined) return !this.#closing.signal.aborted;
      if (leader !== "") this.#standBy(leader);
    }
    return false;
  }

  async #takeOver(): Promise<void> {
    const scheduler = this.#scheduler;
    this.#role = { status: "taking-over" };
    const { epoch } = this.#store.leadership;
    scheduler.restore(await this.#store.load(), epoch);
    if (epoch > 1) this.#gatheredMs = performance.now() + this.#leaseMs;
    this.#role = { status: "leading" };
    scheduler.start();
    await this.#store.start(
      (id, stage) => scheduler.judge(id, stage),
      () =>
        scheduler.experiments().map((experiment) => {
          return { experiment, recipeJson: scheduler.recipeJson(experiment.id) };
        }),
    );
  }
}
