/**
 * Stands before every call of OperatorService, so that none can be without it: who does not know
 * the join token is sent away before the request is read.
 */

import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
} from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import { OperatorServiceService } from "../../proto/gen/coordinator.ts";
import { toServiceError } from "../../proto/grpc-errors.ts";
import type { Connections } from "../../proto/grpc-listener.ts";
import { checkJoinToken } from "../../proto/join-token.ts";
import {
  JOIN_TOKEN_METADATA_KEY,
  VERSION_METADATA_KEY,
  VERSION_METADATA_VALUE,
} from "../../proto/limits.ts";
import { type ControlRefusals, refusalReason } from "./refusal-reasons.ts";

export interface OperatorGateOptions {
  /** Empty when anybody may command. */
  readonly joinToken: string;
  readonly refusals: ControlRefusals;
  readonly connections: Connections;
}

const PATHS = new Set<string>(Object.values(OperatorServiceService).map(({ path }) => path));

export function operatorGate(options: OperatorGateOptions): ServerInterceptor {
  return ({ path }, call) => {
    if (!PATHS.has(path)) return new ServerInterceptingCall(call);
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, pass) => {
            if (mayPass(metadata, path, call, options)) pass(metadata);
          },
        }),
    });
  };
}

function mayPass(
  metadata: Metadata,
  path: string,
  call: ServerInterceptingCallInterface,
  { joinToken, refusals, connections }: OperatorGateOptions,
): boolean {
  try {
    checkVersion(metadata);
    if (joinToken !== "") checkJoinToken(tokenIn(metadata), joinToken);
  } catch (thrown) {
    const error = FleetError.from(thrown);
    const { code, message: because } = error;
    refusals.add(refusalReason(code), { peer: call.getPeer(), call: path, code, because });
    call.sendStatus(toServiceError(error));
    return false;
  }
  connections.trust(call.getPeer());
  return true;
}

function tokenIn(metadata: Metadata): string {
  const [token = ""] = metadata.get(JOIN_TOKEN_METADATA_KEY);
  return token.toString();
}

/** @throws {FleetError} VERSION_MISMATCH */
function checkVersion(metadata: Metadata): void {
  const [version = VERSION_METADATA_VALUE] = metadata.get(VERSION_METADATA_KEY).map(String);
  if (version === VERSION_METADATA_VALUE) return;
  throw new FleetError(
    "VERSION_MISMATCH",
    `the caller speaks protocol version ${version}, this coordinator ${VERSION_METADATA_VALUE}; ` +
      "install the same version of simclr-fleet on both sides",
  );
}
