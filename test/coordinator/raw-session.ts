/** Sessions that do what no client of gRPC would. */

import { once } from "node:events";
import http2 from "node:http2";
import { Client, type ClientDuplexStream, credentials, type ServiceError } from "@grpc/grpc-js";
import {
  FleetServiceService,
  OperatorServiceService,
  ReadLogsRequest,
  WatchExperimentRequest,
  WorkerMessage,
} from "../../proto/gen/coordinator.ts";
import { registerAs } from "./fake-worker.ts";

const HEARTBEAT_MS = 200;

/** A session that sends bytes instead of messages. */
export function openRaw(address: string): {
  readonly stream: ClientDuplexStream<Buffer, Buffer>;
  readonly failure: Promise<ServiceError>;
  close(): void;
} {
  const client = new Client(address, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
  });
  const same = (bytes: Buffer): Buffer => bytes;
  const stream = client.makeBidiStreamRequest(FleetServiceService.session.path, same, same);
  const failure = new Promise<ServiceError>((resolve) => {
    stream.on("error", (error) => resolve(error as ServiceError));
  });
  stream.resume();
  return { stream, failure, close: () => client.close() };
}

/** A call whose caller reads nothing at all: grpc-js would read ahead. */
interface DeafCall {
  send(message: Uint8Array): void;
  /** Says that no more messages follow. */
  end(): void;
  /** Resolves when the coordinator has closed the connection. */
  readonly cut: Promise<unknown>;
}

function openDeaf(address: string, path: string): DeafCall {
  const connection = http2.connect(`http://${address}`);
  connection.on("error", () => {});
  const stream = connection.request({
    ":method": "POST",
    ":path": path,
    "content-type": "application/grpc",
    te: "trailers",
  });
  stream.on("error", () => {});
  const send = (message: Uint8Array): void => {
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    if (!stream.destroyed) stream.write(Buffer.concat([head, message]));
  };
  return { send, end: () => stream.end(), cut: once(connection, "close") };
}

/** Watches an experiment and reads nothing. */
export function openDeafWatcher(address: string, experimentId: string): DeafCall {
  const call = openDeaf(address, OperatorServiceService.watchExperiment.path);
  call.send(WatchExperimentRequest.encode({ experimentId }).finish());
  call.end();
  return call;
}

/** One that asks for an experiment's logs, and reads nothing of them. */
export function openDeafReader(address: string, experimentId: string): DeafCall {
  const call = openDeaf(address, OperatorServiceService.readLogs.path);
  const request = { experimentId, rank: undefined, level: "", last: 0, follow: false };
  call.send(ReadLogsRequest.encode(request).finish());
  call.end();
  return call;
}

/** A member that lives and talks, and reads nothing. */
export function openDeafWorker(
  address: string,
  id: string,
): {
  say(message: NonNullable<WorkerMessage["message"]>): void;
  readonly cut: Promise<unknown>;
} {
  const { send, cut } = openDeaf(address, FleetServiceService.session.path);
  const say = (message: NonNullable<WorkerMessage["message"]>): void =>
    send(WorkerMessage.encode({ message }).finish());
  say({ $case: "register", value: registerAs(id) });
  const beat = (): void =>
    say({ $case: "heartbeat", value: { running: undefined, rssBytes: 1, times: undefined } });
  const heartbeat = setInterval(beat, HEARTBEAT_MS);
  return { say, cut: cut.finally(() => clearInterval(heartbeat)) };
}
