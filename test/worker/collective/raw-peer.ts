import { once } from "node:events";
import { type Client, Server, ServerCredentials, type ServiceError } from "@grpc/grpc-js";
import { Lane, type PullRequest } from "../../../proto/gen/peer.ts";
import type { Transport } from "../../../proto/transport.ts";
import { PROTOCOL_VERSION } from "../../../proto/version.ts";
import { encodeNotice, type FrameScope, hashExperiment } from "../../../worker/collective/frame.ts";
import {
  type JoinOptions,
  joinGroup,
  type PeerGroup,
} from "../../../worker/collective/peer-group.ts";
import {
  openClient,
  type PullCall,
  type PullStream,
  peerService,
  pull,
} from "../../../worker/collective/peer-service.ts";
import { joinDefaults, startLoopbackServer } from "./gang.ts";

/** Scope of the frames that an honest rank 1 would send. */
export const rawScope: FrameScope = {
  experimentHash: hashExperiment("e1"),
  generation: 4,
  source: 1,
};

/** Rank 1 of a gang of two, which says what the test wants; rank 0 is a real group. */
export interface RawPeer {
  readonly group: PeerGroup;
  readonly small: PullCall;
  readonly bulk: PullCall;
  /** The first frame on a lane from rank 0 after its hello. */
  firstFrame(lane: "small" | "bulk"): Promise<Buffer>;
  /** Leaves unread what rank 0 sends, but for what grpc-js reads ahead. */
  stopReading(): void;
  /** Whether rank 0 has ended both streams to this peer. */
  areCut(): boolean;
  close(): Promise<void>;
}

/** Forms the gang: greets properly on both lanes, and pulls both lanes of rank 0. */
export async function formWithRawPeer(overrides: Partial<JoinOptions> = {}): Promise<RawPeer> {
  const calls = new Map<Lane, PullCall>();
  const server = new Server();
  server.addService(peerService, {
    pull: (call: PullCall) => {
      calls.set(call.request.lane, call);
      const json = { worker: "w1", worldSize: 2, wire: "f32" };
      call.write(encodeNotice(rawScope, "hello", { json }));
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });

  const real = await startLoopbackServer();
  const addresses = [real.address, `127.0.0.1:${port}`];
  const peers = addresses.map((address, rank) => ({ workerId: `w${rank}`, address }));
  const joining = joinGroup({ ...joinDefaults(real, 0), peers, ...overrides });
  const clients: Client[] = [];
  const cut = new Set<string>();
  const streams = { small: pullLane("small"), bulk: pullLane("bulk") };
  function pullLane(lane: "small" | "bulk"): PullStream {
    const client = openClient(real.address, lane);
    clients.push(client);
    const stream = pull(client, requestFor(lane));
    // Rank 0 is made to end the streams; how is for it to say.
    stream.on("error", () => {});
    stream.on("status", () => cut.add(lane));
    return stream;
  }
  await Promise.all([once(streams.small, "data"), once(streams.bulk, "data")]);
  const group = await joining;
  return {
    group,
    small: calls.get(Lane.LANE_SMALL)!,
    bulk: calls.get(Lane.LANE_BULK)!,
    firstFrame: async (lane) => {
      const [frame] = await once(streams[lane], "data");
      return frame as Buffer;
    },
    stopReading: () => {
      for (const stream of Object.values(streams)) stream.pause();
    },
    areCut: () => {
      for (const stream of Object.values(streams)) stream.resume();
      return cut.size === 2;
    },
    close: async () => {
      await group.close();
      await real.close();
      for (const client of clients) client.close();
      server.forceShutdown();
    },
  };
}

/** How an honest rank 1 asks rank 0 for a lane. */
function requestFor(lane: "small" | "bulk"): PullRequest {
  return {
    experimentId: "e1",
    generation: 4,
    receiverRank: 1,
    senderRank: 0,
    lane: lane === "bulk" ? Lane.LANE_BULK : Lane.LANE_SMALL,
    protocolVersion: PROTOCOL_VERSION,
    joinToken: "secret",
  };
}

/** How a call of rank 1 for the small lane of the rank at `address` ends. */
export async function answerOf(
  address: string,
  overrides: Partial<PullRequest> = {},
  transport?: Transport,
): Promise<ServiceError> {
  const client = openClient(address, "small", transport);
  const stream = pull(client, { ...requestFor("small"), ...overrides });
  stream.resume();
  const error = await new Promise<ServiceError>((resolve) => stream.once("error", resolve));
  client.close();
  return error;
}
