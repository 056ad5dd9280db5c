/** `coordinator start` */

import { type Command, InvalidArgumentError } from "commander";
import { type CliContext, reportError, runCommand } from "../../proto/cli/cli-context.ts";
import { type LogFlags, openCommandLog, withLogOptions } from "../../proto/cli/log-options.ts";
import { ERROR_SPECS, FleetError } from "../../proto/errors.ts";
import { LogTap } from "../../proto/log-tap.ts";
import { openTransport, type TransportOptions } from "../../proto/tls-files.ts";
import { checkListener, hostPort } from "../../proto/transport.ts";
import { within } from "../../proto/within.ts";
import type { Coordinator } from "../start-coordinator.ts";
import { withTransportOptions } from "./client-options.ts";
import { type LauncherFlags, parseLauncherFlags, withLauncherOptions } from "./launcher-options.ts";

const SECONDS_MAX = 86_400;
/** Several things wait for Redis, each for 5 s at most. */
const CLOSE_TIMEOUT_MS = 15_000;

interface StartOptions extends TransportOptions, LogFlags, LauncherFlags {
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly host: string;
  readonly stateDir: string;
  readonly redisPrefix: string;
  readonly leaderTtl: number;
  readonly joinToken?: string;
  readonly operatorToken?: string;
  readonly stopTimeout: number;
  readonly json: boolean;
}

export function registerStart(program: Command, context: CliContext): void {
  const command = program
    .command("start")
    .description(
      "run the coordinator until Ctrl-C (stops the gangs and sends the workers away) or SIGTERM " +
        "(leaves them at work for the next coordinator); both end with exit status 0",
    )
    .option("--grpc-port <port>", "for workers and commands; 0 takes a free one", port, 50_051)
    .option(
      "--http-port <port>",
      "for the status page, /metrics, /healthz and /readyz",
      port,
      9_464,
    )
    .option("--host <address>", "interface to listen on; 0.0.0.0 is all of them", "127.0.0.1")
    .option("--state-dir <dir>", "where an own redis-server keeps its data", ".state")
    .option("--redis-prefix <name>", "keeps several coordinators apart on one Redis", "simclr")
    .option("--leader-ttl <seconds>", "silence after which a standby takes over", seconds, 5)
    .option(
      "--join-token <secret>",
      "what workers and commands must know ($SIMCLR_JOIN_TOKEN, safer)",
    )
    .option(
      "--operator-token <secret>",
      "what the status page asks for before it changes anything; without it the page only shows " +
        "($SIMCLR_OPERATOR_TOKEN, safer)",
    )
    .option(
      "--stop-timeout <seconds>",
      "for a gang that is to stop to finish its step together; then it gives the step up",
      seconds,
      30,
    )
    .option("--json", "print the addresses as JSON once they are open", false)
    .addHelpText(
      "after",
      "\nRedis is taken from $REDIS_URL; without it one is started. Of several coordinators\n" +
        "on one Redis the first leads, and the others stand by; one that was replaced ends with\n" +
        "exit status 18.\n" +
        "Beyond loopback it wants a join token, and the --tls-* files or --plaintext.",
    );
  withTransportOptions(withLogOptions(withLauncherOptions(command))).action(
    (options: StartOptions) =>
      runCommand(context, options.logLevel, () => runCoordinator(options, context)),
  );
}

async function runCoordinator(options: StartOptions, context: CliContext): Promise<void> {
  const { grpcPort, httpPort, host, stateDir, redisPrefix } = options;
  const joinToken = options.joinToken ?? context.env["SIMCLR_JOIN_TOKEN"] ?? "";
  const operatorToken = options.operatorToken ?? context.env["SIMCLR_OPERATOR_TOKEN"] ?? "";
  const transport = openTransport(options, context.env);
  checkListener(transport, { host, joinToken });
  const launcher = await parseLauncherFlags(options, transport);
  // The other commands have no use for Redis and its queue, and start sooner without them.
  const { startCoordinator } = await import("../start-coordinator.ts");
  const logTap = new LogTap();
  const log = await openCommandLog(context, options, { process: "coordinator", tap: logTap });
  const stopped = new Promise<NodeJS.Signals>((resolve) => context.onStopSignal(resolve));
  const redisUrl = context.env["REDIS_URL"];
  const coordinator = await startCoordinator({
    host,
    grpcPort,
    httpPort,
    stateDir,
    redisPrefix,
    leaderTtlMs: options.leaderTtl * 1_000,
    joinToken,
    operatorToken,
    transport,
    log,
    logTap,
    boundaryTimeoutMs: 1_000 * options.stopTimeout,
    ...(redisUrl ? { redisUrl } : {}),
    ...(launcher ? { launcher } : {}),
  });
  context.onExit(() => coordinator.kill());
  announce(coordinator, options, context);
  const { grpcPort: grpc, httpPort: http, redisAddress: redis } = coordinator;
  const { security } = transport;
  log.info({
    event: "coordinator started",
    host,
    grpc,
    http,
    security,
    redis,
    ownRedis: !redisUrl,
  });

  try {
    const signal = await Promise.race([stopped, coordinator.ended]);
    log.info({ event: "coordinator stopping", signal });
    if (await closeInTime(coordinator, { dismiss: signal === "SIGINT" })) {
      log.info({ event: "coordinator stopped" });
      return;
    }
    log.error({ event: "coordinator not stopped in time", timeoutMs: CLOSE_TIMEOUT_MS });
    context.exit(ERROR_SPECS.UNEXPECTED.exit);
  } catch (error) {
    // Workers go on, and join the one that leads now.
    await closeInTime(coordinator, { dismiss: false });
    reportError(error, context, options.logLevel);
    // What waits for a Redis that does not answer would keep the process alive.
    context.exit(FleetError.from(error).exit);
  }
}

/** @returns whether everything was closed within {@link CLOSE_TIMEOUT_MS} */
async function closeInTime(
  coordinator: Coordinator,
  options: { readonly dismiss: boolean },
): Promise<boolean> {
  const closed = coordinator.close(options).then(() => true);
  return (await within(closed, CLOSE_TIMEOUT_MS)) ?? false;
}

function announce(
  { grpcPort, httpPort, redisAddress, role }: Coordinator,
  { host, json }: StartOptions,
  { stdout }: CliContext,
): void {
  const grpc = hostPort(host, grpcPort);
  const http = `http://${hostPort(host, httpPort)}`;
  const standsByFor = role.status === "standing-by" ? role.leader : undefined;
  const state = standsByFor ? `stands by for the one at ${standsByFor}` : "ready";
  const line = json
    ? JSON.stringify({ grpc, http, redis: redisAddress, standsByFor })
    : `coordinator ${state}: gRPC ${grpc}, HTTP ${http}, Redis ${redisAddress}`;
  stdout.write(`${line}\n`);
}

function port(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value <= 65_535) return value;
  throw new InvalidArgumentError("A port is a whole number from 0 to 65535.");
}

function seconds(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value > 0 && value <= SECONDS_MAX) return value;
  throw new InvalidArgumentError(`It is a whole number of seconds from 1 to ${SECONDS_MAX}.`);
}
