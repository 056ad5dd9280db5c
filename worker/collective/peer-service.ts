/** The PeerService of peer.proto: its method by hand, and how its connections are set up. */

import {
  type ChannelOptions,
  Client,
  type ClientReadableStream,
  Metadata,
  type MethodDefinition,
  type ServerWritableStream,
  type ServiceError,
  type StatusObject,
} from "@grpc/grpc-js";
import { ERROR_SPECS, type ErrorCode, FleetError } from "../../proto/errors.ts";
import { PullRequest } from "../../proto/gen/peer.ts";
import { PLAINTEXT, type Transport } from "../../proto/transport.ts";
import { HEADER_BYTES } from "./frame.ts";
import { CHUNK_BYTES } from "./frame-order.ts";

export type PullCall = ServerWritableStream<PullRequest, Buffer>;
export type PullStream = ClientReadableStream<Buffer>;

/** Frames are passed through as they are: a message codec would copy every tensor once more. */
export const peerService = {
  pull: {
    path: "/simclr_fleet.peer.v1.PeerService/Pull",
    requestStream: false,
    responseStream: true,
    requestSerialize: (request: PullRequest) => Buffer.from(PullRequest.encode(request).finish()),
    requestDeserialize: (bytes: Buffer) => PullRequest.decode(bytes),
    responseSerialize: (frame: Buffer) => frame,
    responseDeserialize: (bytes: Buffer) => bytes,
  } satisfies MethodDefinition<PullRequest, Buffer>,
};

/**
 * grpc-js sends no keepalive unless told to, and then a socket whose peer was stopped or cut off
 * stays for ever. The timeout is long because grpc-js takes a stall of this very process for one of
 * the peer: after a stall its timer fires before the answer that lies in the socket is read. Peers
 * are watched over more closely, and without that mistake, by silence.ts.
 */
const KEEPALIVE: ChannelOptions = {
  "grpc.keepalive_time_ms": 2000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.keepalive_permit_without_calls": 1,
};

/** The largest frame, with room to spare for an `abort`'s reason. */
const MESSAGE_BYTES_MAX = HEADER_BYTES + 2 * CHUNK_BYTES;

export const serverOptions: ChannelOptions = {
  ...KEEPALIVE,
  // Requests are small, and each stream has a connection of its own.
  "grpc.max_receive_message_length": 64 * 1024,
  "grpc.max_concurrent_streams": 16,
  "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
};

const clientOptions: ChannelOptions = {
  ...KEEPALIVE,
  "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
  // Else all channels to one address share a connection, and small frames queue behind bulk ones.
  "grpc.use_local_subchannel_pool": 1,
  "grpc.enable_http_proxy": 0,
  "grpc.enable_retries": 0,
  // A peer that is about to listen should be found soon after it does.
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.min_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 500,
};

/** What a sender may have under way before the receiver has read any of it. */
const BULK_WINDOW_BYTES = 8 * 1024 * 1024;

/** A connection of its own to `address`, in host:port form. */
export function openClient(
  address: string,
  lane: "small" | "bulk",
  transport: Transport = PLAINTEXT,
): Client {
  const window = lane === "bulk" ? { "grpc-node.flow_control_window": BULK_WINDOW_BYTES } : {};
  const options = { ...clientOptions, ...window, ...transport.clientOptions };
  return new Client(address, transport.clientCredentials, options);
}

export function pull(client: Client, request: PullRequest): PullStream {
  const { path, requestSerialize, responseDeserialize } = peerService.pull;
  return client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
}

/** Carries the code of the error table: several codes share one gRPC status. */
const CODE_KEY = "fleet-code";

/** The error with which a server refuses a call. */
export function toStatus(error: FleetError): Partial<StatusObject> {
  const metadata = new Metadata();
  metadata.set(CODE_KEY, error.code);
  return { code: ERROR_SPECS[error.code].grpc, details: error.message, metadata };
}

/** The code given to {@link toStatus}; undefined when the status came from gRPC itself. */
export function refusalOf(error: ServiceError): ErrorCode | undefined {
  const code = error.metadata?.get(CODE_KEY)[0]?.toString();
  return code === undefined ? undefined : FleetError.fromPlain({ code, message: "" }).code;
}
