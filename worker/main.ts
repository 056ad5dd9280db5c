#!/usr/bin/env -S node --min-semi-space-size=64 --max-semi-space-size=128
/**
 * The `worker` command: flags and environment in, exit code out.
 *
 * A step receives all gradients in short-lived buffers. With the usual few megabytes for young
 * objects the collector of garbage runs all the time, on a core that an engine needs.
 */

import { Command, CommanderError } from "commander";
import { FleetError } from "../proto/errors.ts";
import { openLog } from "../proto/log.ts";
import { openTransport } from "../proto/tls-files.ts";
import { TRANSPORT_OPTIONS } from "../proto/transport.ts";
import { SOFTWARE_VERSION } from "../proto/version.ts";
import { DEFAULT_LOADER_THREADS, parseWorkerConfig } from "./config.ts";
import { OPENMP_ENVIRONMENT } from "./engine/onednn/environment.ts";
import { tensorflowEnvironment } from "./engine/tfjs/environment.ts";
import { FleetWorker } from "./session/fleet-worker.ts";

const SIGNAL_EXITS = { SIGINT: 130, SIGTERM: 143 } as const;

const program = new Command("worker")
  .description("One member of a simclr-fleet cluster: trains what the coordinator assigns to it.")
  .version(SOFTWARE_VERSION)
  .exitOverride();

// grpc-js names a server that is called by its address in a way that Node.js will ignore some day.
// With that nothing is wrong, and nobody who runs a command can change it.
Object.assign(process, { noDeprecation: true });

const startCommand = program
  .command("start")
  .description("join a coordinator and work until told to stop")
  .option("--coordinator <host:port>", "address of the coordinator", "127.0.0.1:50051")
  .option("--engine <name>", "auto, onednn, tfjs, tfjs:node-gpu, tfjs:node or tfjs:wasm", "auto")
  .option("--threads <n>", "compute threads", "1")
  .option("--precision <type>", "f32, or bf16 where the engine has it", "f32")
  .option("--loader-threads <n>", "threads that decode images", String(DEFAULT_LOADER_THREADS))
  .option("--work-dir <dir>", "checkpoints and results; shared by all workers", "work_dirs")
  .option("--host <address>", "interface for peers; 0.0.0.0 is all of them", "127.0.0.1")
  .option("--peer-port <port>", "port for peers; 0 takes a free one", "0")
  .option("--advertise <host:port>", "address that peers are told, where it differs")
  .option("--http-port <port>", "serve /metrics and /healthz on this port")
  .option("--join-token <secret>", "what the coordinator asks for ($SIMCLR_JOIN_TOKEN, safer)")
  .option("--name <name>", "name for people; host and process id by default")
  .option("--connect-timeout <seconds>", "patience with the first connection", "10")
  .option("--reconnect-timeout <seconds>", "patience with a coordinator that went away", "300")
  .option(
    "--collective-timeout <seconds>",
    "patience with a rank that makes no progress (default: 20 times what the like took lately)",
  )
  .option("--log-level <level>", "trace, debug, info, warn, error or silent", "info")
  .addHelpText(
    "after",
    "\nBeyond loopback it wants a join token, and the --tls-* files or --plaintext.",
  )
  .action(start);
for (const [flags, meaning] of TRANSPORT_OPTIONS) startCommand.option(flags, meaning);

try {
  await program.parseAsync();
} catch (thrown) {
  process.exit(explain(thrown));
}

async function start(options: Record<string, unknown>): Promise<void> {
  const joinToken = options["joinToken"] ?? process.env["SIMCLR_JOIN_TOKEN"] ?? "";
  const transport = openTransport(options, process.env);
  const config = parseWorkerConfig({ ...options, joinToken }, transport);
  const log = openLog({ level: String(options["logLevel"]), process: "worker" });
  const environment = { ...tensorflowEnvironment(config), ...OPENMP_ENVIRONMENT };
  for (const [name, value] of Object.entries(environment)) process.env[name] ??= value;
  const worker = await FleetWorker.start(config, log);
  let signals = 0;
  for (const [signal, exit] of Object.entries(SIGNAL_EXITS)) {
    process.on(signal, () => {
      signals += 1;
      if (signals > 1) process.exit(exit);
      log.info({ signal }, "shutting down");
      worker.shutDown(`the worker received ${signal}`).then(
        () => process.exit(exit),
        () => process.exit(exit),
      );
    });
  }
  await worker.ended;
}

function explain(thrown: unknown): number {
  // Commander has already printed its own message, and help is not an error.
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : 2;
  const error = FleetError.from(thrown);
  const text =
    error.code === "UNEXPECTED" && thrown instanceof Error ? thrown.stack : error.message;
  process.stderr.write(`error: ${text}\n`);
  return error.exit;
}
