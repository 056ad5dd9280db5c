/** Stands before a member's server and passes its frames on, but for one. */

import { type Client, Server, ServerCredentials, type ServiceError } from "@grpc/grpc-js";
import { Lane } from "../../../proto/gen/peer.ts";
import {
  decodeFrame,
  encodeFrame,
  type FrameKind,
  type FrameScope,
  hashExperiment,
} from "../../../worker/collective/frame.ts";
import {
  openClient,
  type PullCall,
  peerService,
  pull,
  serverOptions,
} from "../../../worker/collective/peer-service.ts";

export interface FrameFaultInjection {
  /** Sent twice; or sent as it would have been in the generation before. */
  readonly fault: "duplicate" | "older";
  readonly kind: FrameKind;
  /** How many frames of this kind, over all streams, are passed on before. */
  readonly skip: number;
}

export interface FrameRelay {
  readonly address: string;
  close(): void;
}

export async function startFrameRelay(
  target: string,
  { fault, kind, skip }: FrameFaultInjection,
  injected: () => void,
): Promise<FrameRelay> {
  const clients = new Set<Client>();
  let seen = 0;

  function passOn(call: PullCall): void {
    const { experimentId, generation, senderRank, lane } = call.request;
    const experimentHash = hashExperiment(experimentId);
    const scope: FrameScope = { experimentHash, generation, source: senderRank };
    const client = openClient(target, lane === Lane.LANE_BULK ? "bulk" : "small");
    clients.add(client);
    const stream = pull(client, call.request);
    stream.on("data", (bytes: Buffer) => {
      const frame = decodeFrame(bytes, scope);
      if (frame.kind !== kind || seen++ !== skip) {
        call.write(bytes);
        return;
      }
      const older = { ...scope, generation: generation - 1 };
      call.write(fault === "older" ? encodeFrame(older, frame, frame.payload) : bytes);
      if (fault === "duplicate") call.write(bytes);
      injected();
    });
    stream.on("error", ({ code, details, metadata }: ServiceError) => {
      call.emit("error", { code, details, metadata });
    });
    stream.on("end", () => call.end());
    call.once("cancelled", () => {
      stream.cancel();
      client.close();
      clients.delete(client);
    });
  }

  const server = new Server(serverOptions);
  server.addService(peerService, { pull: passOn });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return {
    address: `127.0.0.1:${port}`,
    close: () => {
      for (const client of clients) client.close();
      server.forceShutdown();
    },
  };
}
