/** The options that every command shares which talks to a running coordinator. */

import type { Command } from "commander";
import { type CliContext, runCommand } from "../../proto/cli/cli-context.ts";
import { openTransport, type TransportOptions } from "../../proto/tls-files.ts";
import { checkReach, hostOf, TRANSPORT_OPTIONS } from "../../proto/transport.ts";
import { OperatorClient } from "./operator-client.ts";

const DEFAULT_ADDRESS = "127.0.0.1:50051";

export interface ClientOptions extends TransportOptions {
  readonly coordinator: string;
  readonly joinToken?: string;
  readonly json: boolean;
  readonly logLevel: string;
}

/** Adds `--coordinator`, `--join-token`, `--json`, `--log-level`, and how it is connected. */
export function withClientOptions(command: Command, context: CliContext): Command {
  const address = context.env["SIMCLR_COORDINATOR"] || DEFAULT_ADDRESS;
  command
    .option(
      "--coordinator <host:port,...>",
      "the coordinator and its standbys ($SIMCLR_COORDINATOR)",
      address,
    )
    .option("--join-token <secret>", "of the cluster ($SIMCLR_JOIN_TOKEN, safer)")
    .option("--json", "print JSON", false)
    .option("--log-level <level>", "debug adds stack traces to errors", "info");
  return withTransportOptions(command);
}

/** Adds `--tls-cert`, `--plaintext` and their like. */
export function withTransportOptions(command: Command): Command {
  for (const [flags, meaning] of TRANSPORT_OPTIONS) command.option(flags, meaning);
  return command;
}

/** Runs `work` with a client, which is closed afterwards. */
export async function runWithClient(
  context: CliContext,
  options: ClientOptions,
  work: (client: OperatorClient) => Promise<void>,
): Promise<void> {
  await runCommand(context, options.logLevel, async () => {
    const transport = openTransport(options, context.env);
    const joinToken = options.joinToken ?? context.env["SIMCLR_JOIN_TOKEN"] ?? "";
    const client = new OperatorClient(options.coordinator, transport, joinToken);
    try {
      for (const address of options.coordinator.split(",")) {
        checkReach(transport, "--coordinator", hostOf(address));
      }
      await work(client);
    } finally {
      client.close();
    }
  });
}
