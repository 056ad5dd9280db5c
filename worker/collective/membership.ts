/** Who belongs to a generation, and how its members are named in messages. */

import { type ErrorDetail, FleetError } from "../../proto/errors.ts";

/** A member of the gang; its rank is its place in the list. */
export interface Peer {
  readonly workerId: string;
  /** HOST:PORT of its peer server. */
  readonly address: string;
}

export interface Membership {
  readonly experimentId: string;
  readonly generation: number;
  /** This worker's. */
  readonly rank: number;
  /** All members in rank order, this worker included. */
  readonly peers: readonly Peer[];
}

/** The ranks other than this worker's. */
export function otherRanks({ rank, peers }: Membership): number[] {
  return [...peers.keys()].filter((other) => other !== rank);
}

/** The rank whose bulk data this worker receives. */
export function predecessorOf({ rank, peers }: Membership): number {
  return (rank - 1 + peers.length) % peers.length;
}

/** The rank that receives this worker's bulk data. */
export function successorOf({ rank, peers }: Membership): number {
  return (rank + 1) % peers.length;
}

/** "rank 2 (worker w2 at 10.0.0.7:50061)" */
export function describeRank({ peers }: Membership, rank: number): string {
  const peer = peers[rank];
  return `rank ${rank} (worker ${peer?.workerId} at ${peer?.address})`;
}

export function describeRanks(members: Membership, ranks: readonly number[]): string {
  return ranks.map((rank) => describeRank(members, rank)).join(", ");
}

/** GENERATION_ABORTED because of one rank, which the message and the detail name. */
export function blame(
  members: Membership,
  rank: number,
  because: string,
  detail: ErrorDetail = {},
  cause?: unknown,
): FleetError {
  const peer = members.peers[rank];
  return new FleetError(
    "GENERATION_ABORTED",
    `${describeGeneration(members)} ended: ${describeRank(members, rank)} ${because}`,
    {
      ...whichGeneration(members),
      rank,
      worker: peer?.workerId ?? "",
      address: peer?.address ?? "",
      ...detail,
    },
    cause,
  );
}

export function describeGeneration({ experimentId, generation }: Membership): string {
  return `generation ${generation} of experiment ${experimentId}`;
}

export function whichGeneration({ experimentId, generation }: Membership): ErrorDetail {
  return { experiment: experimentId, generation };
}
