/**
 * Which of the coordinators on one Redis leads. The leader holds a key that ends unless it is
 * renewed; whoever finds it free takes it, with an epoch above all earlier ones.
 *
 *   candidate --key is free--> leading --key or a write says another epoch--> lost
 *       |                        ^  |
 *       +- stands by, asks again +  +-- resign --> candidate
 *
 * That the key has ended does not end a lead, only a successor does: a Redis that is away for a
 * while changes nothing for a single coordinator. What keeps two of them apart is the fence: each
 * write compares the epoch in the same script, so that one which was stopped or cut off while
 * another took over changes nothing when it comes back. Of two epochs the higher one is right.
 */

import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import { FleetError } from "../../proto/errors.ts";
import type { Log } from "../../proto/log.ts";
import { CAMPAIGN, CONFIRM, FENCE, FENCED_ERROR, RENEW, RESIGN } from "./leadership-scripts.ts";

/** Of the leader's key. */
const LEADER_TTL_MS = 5_000;
const RENEWALS_PER_TTL = 5;
const RENEWAL_MS_MAX = 1_000;
/** How often a standby looks: one that finds the key gone takes over. */
export const LOOK_MS = 200;

/** One that would lead. */
export interface Candidate {
  /** HOST:PORT, for people. */
  readonly address: string;
  /**
   * Names the socket that it listens on; two processes cannot have it at the same time. So a leader
   * with the same seat is gone. Empty when that cannot be known.
   */
  readonly seat: string;
  /** Nobody else can be using this Redis. */
  readonly isAlone: boolean;
}

export interface LeadershipOptions {
  readonly redis: Redis;
  readonly prefix: string;
  readonly log: Log;
  readonly ttlMs?: number | undefined;
}

export class Leadership {
  /** Resolves when the lead is lost to another coordinator; the reason is LEADERSHIP_LOST. */
  readonly lost: Promise<FleetError>;
  readonly #redis: Redis;
  readonly #log: Log;
  readonly #ttlMs: number;
  readonly #id = randomUUID();
  readonly #keys: readonly [epoch: string, leader: string, standbys: string];
  #candidate: Candidate | undefined;
  #status: "candidate" | "leading" | "lost" = "candidate";
  #epoch = 0;
  #standbys = 0;
  /** When the last renewal that succeeded was sent: the key lasts from then on, or from later. */
  #renewedMs = 0;
  #isRenewing = false;
  /** Whether the last renewal failed. */
  #isCutOff = false;
  #timer: NodeJS.Timeout | undefined;
  #tellLost!: (error: FleetError) => void;

  constructor(options: LeadershipOptions) {
    const { redis, prefix, log, ttlMs = LEADER_TTL_MS } = options;
    this.#redis = redis;
    this.#log = log;
    this.#ttlMs = ttlMs;
    this.#keys = [`${prefix}:epoch`, `${prefix}:leader`, `${prefix}:standbys`];
    this.lost = new Promise((resolve) => {
      this.#tellLost = resolve;
    });
  }

  /** The own one while leading, else the leader's as far as it is known. */
  get epoch(): number {
    return this.#epoch;
  }

  /** @throws {FleetError} LEADERSHIP_LOST */
  assertLeading(): void {
    if (this.#status !== "leading") throw lostTo("another coordinator");
  }

  get isLeading(): boolean {
    return this.#status === "leading";
  }

  /** Takes the lead, or gives the address of whoever has it; fails as Redis does. */
  async campaign(candidate: Candidate): Promise<string | undefined> {
    const { address, seat, isAlone } = candidate;
    const sentMs = performance.now();
    const reply = await this.#redis.eval(
      CAMPAIGN,
      this.#keys.length,
      ...[...this.#keys, this.#id, this.#epoch, address, seat, this.#ttlMs, isAlone ? "1" : ""],
    );
    const [isWon, epoch, leader] = reply as [number, number, string?];
    this.#epoch = Math.max(this.#epoch, epoch);
    if (isWon === 0) return leader ?? "";
    this.#candidate = candidate;
    this.#status = "leading";
    this.#renewedMs = sentMs;
    const renewalMs = Math.min(RENEWAL_MS_MAX, this.#ttlMs / RENEWALS_PER_TTL);
    this.#timer = setInterval(() => this.#beat(), renewalMs);
    this.#log.info({ event: "leadership taken", epoch });
    return undefined;
  }

  /**
   * Whether gangs may be formed: not when a successor may lead already. With Redis away and nobody
   * standing by there can be none.
   */
  mayAct(): boolean {
    if (this.#status !== "leading") return false;
    return this.#isFresh() || (this.#isCutOff && this.#standbys === 0);
  }

  /**
   * Runs a script of leadership-scripts.ts behind the fence.
   *
   * @throws {FleetError} LEADERSHIP_LOST, and then nothing was changed; other errors as Redis
   */
  async run(
    script: string,
    keys: readonly string[],
    args: readonly (string | number)[],
  ): Promise<unknown> {
    const [epochKey] = this.#keys;
    this.assertLeading();
    try {
      return await this.#redis.eval(
        `${FENCE}${script}`,
        1 + keys.length,
        ...[epochKey, ...keys, this.#id, this.#epoch, ...args],
      );
    } catch (thrown) {
      if (!(thrown instanceof Error) || !FENCED_ERROR.test(thrown.message)) throw thrown;
      throw this.#lose(lostTo(`a coordinator of a later epoch (${thrown.message})`));
    }
  }

  /** Whether Redis confirms, now, that nobody else has taken over; false also when it is away. */
  async isConfirmed(): Promise<boolean> {
    return await this.run(CONFIRM, [], []).then(
      () => true,
      () => false,
    );
  }

  /**
   * A worker has met a coordinator of a higher epoch. Either that one leads, or Redis has lost its
   * last writes: then this one goes on, above that epoch.
   *
   * @throws {FleetError} LEADERSHIP_LOST for a higher epoch than the own; asking again may help
   */
  meet(epochSeen: number): void {
    if (epochSeen <= this.#epoch) return;
    const error = lostTo(`a coordinator of epoch ${epochSeen}, which a worker has met`);
    this.#renew(epochSeen + 1).catch(() => this.#lose(error));
    throw error;
  }

  /** Gives the lead up, so that a standby takes over at once. */
  async resign(): Promise<void> {
    clearInterval(this.#timer);
    if (this.#status !== "leading") return;
    const [, leader] = this.#keys;
    await this.run(RESIGN, [leader], []).catch(() => {
      // Redis is away, or somebody else leads: the key ends by itself.
    });
    this.#status = "candidate";
  }

  #isFresh(): boolean {
    return performance.now() - this.#renewedMs <= this.#ttlMs;
  }

  #beat(): void {
    if (this.#isRenewing) this.#endIfSucceeded();
    else this.#renew(this.#epoch).catch(() => this.#endIfSucceeded());
  }

  async #renew(epoch: number): Promise<void> {
    const { address, seat } = this.#candidate ?? { address: "", seat: "" };
    const [, ...keys] = this.#keys;
    const sentMs = performance.now();
    this.#isRenewing = true;
    try {
      const renewal = [address, seat, this.#ttlMs, epoch];
      this.#standbys = Number(await this.run(RENEW, keys, renewal));
      this.#renewedMs = sentMs;
      this.#epoch = Math.max(this.#epoch, epoch);
      this.#isCutOff = false;
    } catch (thrown) {
      this.#isCutOff = true;
      throw thrown;
    } finally {
      this.#isRenewing = false;
    }
  }

  /** The key has ended without a renewal: whoever stood by has taken it, unless Redis is away. */
  #endIfSucceeded(): void {
    if (this.#standbys === 0 || this.#isFresh()) return;
    const silentMs = Math.round(performance.now() - this.#renewedMs);
    this.#lose(lostTo(`a standby: Redis has not answered for ${silentMs} ms`));
  }

  #lose(error: FleetError): FleetError {
    if (this.#status !== "leading") return error;
    this.#status = "lost";
    clearInterval(this.#timer);
    this.#log.error({ event: "leadership lost", epoch: this.#epoch, because: error.message });
    this.#tellLost(error);
    return error;
  }
}

function lostTo(successor: string): FleetError {
  return new FleetError("LEADERSHIP_LOST", `this coordinator was replaced by ${successor}`);
}
