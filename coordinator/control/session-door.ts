/** Who may begin a session, and who may become a member: how many at a time, and how fast. */

import { FleetError } from "../../proto/errors.ts";
import { PeerQuota } from "../../proto/peer-quota.ts";
import { TokenBuckets } from "../../proto/token-bucket.ts";
import type { ControlLimits } from "./control-limits.ts";

/** Addresses whose registrations are counted at the same time. */
const ADDRESSES_MAX = 10_000;

export class SessionDoor {
  readonly #limits: ControlLimits;
  readonly #unregistered: PeerQuota;
  readonly #registers: TokenBuckets;

  constructor(limits: ControlLimits) {
    this.#limits = limits;
    this.#unregistered = new PeerQuota(limits.unregistered);
    this.#registers = new TokenBuckets(limits.registers, ADDRESSES_MAX);
  }

  /**
   * Lets a session in that has not registered yet.
   *
   * @returns to be called when it has, or has ended
   * @throws {FleetError} OVERLOADED
   */
  enter(address: string): () => void {
    const leave = this.#unregistered.take(address);
    if (leave) return leave;
    const { perPeer, total } = this.#limits.unregistered;
    const bound = `${perPeer} of one address, ${total} in all`;
    throw new FleetError("OVERLOADED", `too many sessions have not registered yet (${bound})`);
  }

  /**
   * Lets a worker try to register.
   *
   * @throws {FleetError} OVERLOADED
   */
  knock(address: string, nowMs: number): void {
    if (this.#registers.take(address, nowMs)) return;
    const { perSecond } = this.#limits.registers;
    const message = `${address} registers workers too fast; ${perSecond} a second are taken`;
    throw new FleetError("OVERLOADED", message, { perSecond });
  }

  /**
   * Lets a worker become a member that was none.
   *
   * @param members how many there are, those that are lost left out
   * @throws {FleetError} OVERLOADED
   */
  join(members: number): void {
    const { members: limit } = this.#limits;
    if (members < limit) return;
    throw new FleetError("OVERLOADED", `the fleet has its most members, ${limit}`, { limit });
  }
}
