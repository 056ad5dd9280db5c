/** `worker start`: one member of the fleet. */

import type { Command } from "commander";
import { type CliContext, reportError } from "../../proto/cli/cli-context.ts";
import { type LogFlags, openCommandLog, withLogOptions } from "../../proto/cli/log-options.ts";
import { ERROR_SPECS, FleetError } from "../../proto/errors.ts";
import { LogTap } from "../../proto/log-tap.ts";
import { openTransport, type TransportOptions } from "../../proto/tls-files.ts";
import { TRANSPORT_OPTIONS } from "../../proto/transport.ts";
import { DEFAULT_LOADER_THREADS, parseWorkerConfig } from "../config.ts";
import { engineEnvironment } from "../engine/engine-environment.ts";
import { FleetWorker } from "../session/fleet-worker.ts";

/** The rest of it is checked by worker/config.ts. */
type StartOptions = LogFlags & TransportOptions & Readonly<Record<string, unknown>>;

const DEFAULT_COORDINATOR = "127.0.0.1:50051";

export function registerStart(program: Command, context: CliContext): void {
  const command = program
    .command("start")
    .description("join a coordinator and work until told to stop")
    .option(
      "--coordinator <host:port,...>",
      "the coordinator and its standbys",
      DEFAULT_COORDINATOR,
    )
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
    .option("--experiment <id>", "take work of this experiment only")
    .option("--stage <name>", "take work of this stage only: pretrain or linear")
    .option("--leave-when-over", "end with exit status 0 once that work is over")
    .option(
      "--trace <file>",
      "write a trace of each assignment for Perfetto; FILE-gN-rank-R.json, a file for each rank",
    )
    .option("--trace-steps <n>", "how many steps of an assignment are traced", "100")
    .option("--log-samples", "write down the images of every step, in samples-rank-N.jsonl")
    .addHelpText(
      "after",
      "\nBeyond loopback it wants a join token, and the --tls-* files or --plaintext.",
    );
  for (const [flags, meaning] of TRANSPORT_OPTIONS) command.option(flags, meaning);
  withLogOptions(command).action((options: StartOptions) =>
    start(context, options).catch((thrown: unknown) => {
      reportError(thrown, context, options.logLevel);
      // Whatever had been started by then would keep the process alive.
      context.exit(FleetError.from(thrown).exit);
    }),
  );
}

async function start(context: CliContext, options: StartOptions): Promise<void> {
  const joinToken = options["joinToken"] ?? context.env["SIMCLR_JOIN_TOKEN"] ?? "";
  const transport = openTransport(options, context.env);
  const config = parseWorkerConfig({ ...options, joinToken }, transport);
  const logTap = new LogTap();
  const log = await openCommandLog(context, options, { process: "worker", tap: logTap });
  for (const [name, value] of Object.entries(engineEnvironment(config))) {
    context.setEnvDefault(name, value);
  }
  const worker = await FleetWorker.start(config, log, logTap);
  context.onStopSignal((signal, exit) => {
    log.info({ event: "shutting down", signal });
    const { exit: preempted } = ERROR_SPECS.PREEMPTED;
    worker.shutDown(`the worker received ${signal}`).then(
      ({ isDrained }) => context.exit(isDrained && signal === "SIGTERM" ? preempted : exit),
      () => context.exit(exit),
    );
  });
  await worker.ended;
}
