/**
 * A worker process: engine thread, peer server and fleet session put together, one assignment at a
 * time.
 */

import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { FleetError } from "../../proto/errors.ts";
import type { Abort, Assignment, Running } from "../../proto/gen/coordinator.ts";
import type { GuardedHttp } from "../../proto/guarded-http.ts";
import { DRAIN_TIMEOUT_MS } from "../../proto/limits.ts";
import type { Log } from "../../proto/log.ts";
import type { LogTap } from "../../proto/log-tap.ts";
import { Refusals } from "../../proto/refusals.ts";
import { PROTOCOL_VERSION, SOFTWARE_VERSION } from "../../proto/version.ts";
import { findStage } from "../../proto/wire-stages.ts";
import {
  PEER_REFUSAL_REASONS,
  type PeerServer,
  startPeerServer,
} from "../collective/peer-server.ts";
import type { WorkerConfig } from "../config.ts";
import { describeJpegDecoder } from "../data/jpeg-decoder.ts";
import { CheckpointHost } from "./checkpoint-host.ts";
import { EngineHost, type StageOutcome } from "./engine-host.ts";
import { FleetSession } from "./fleet-session.ts";
import { startHttpServer } from "./http-server.ts";
import { LogShipper } from "./log-shipper.ts";
import { lostRanksOf } from "./lost-ranks.ts";
import { type ActiveStage, StageReporter } from "./stage-reporter.ts";
import { StageRunner } from "./stage-runner.ts";
import { makeTraceFolder } from "./stage-trace.ts";
import { toWireDedication } from "./wire-dedication.ts";
import { WorkerMetrics } from "./worker-metrics.ts";

/** How a worker has left the fleet. */
export interface Departure {
  /** Whether nothing was given up: the step under way was finished, or there was none. */
  readonly isDrained: boolean;
}

interface Parts {
  readonly engine: EngineHost;
  readonly checkpoints: CheckpointHost;
  readonly server: PeerServer;
  readonly metrics: WorkerMetrics;
  readonly http: GuardedHttp | undefined;
}

export class FleetWorker {
  readonly #config: WorkerConfig;
  readonly #log: Log;
  readonly #parts: Parts;
  readonly #session: FleetSession;
  readonly #logs: LogShipper;
  readonly #ended = openEnd();
  #active: ActiveStage | undefined;
  #activeDone: Promise<StageOutcome | undefined> = Promise.resolve(undefined);
  #leaving: Promise<Departure> | undefined;

  private constructor(config: WorkerConfig, log: Log, tap: LogTap, parts: Parts) {
    this.#config = config;
    this.#log = log;
    this.#parts = parts;
    this.#session = this.#openSession();
    this.#logs = new LogShipper((value) => this.#session.offer({ $case: "logLines", value }));
    tap.listen((line) => this.#logs.take(line));
    parts.engine.died.catch((thrown) => this.#end(FleetError.from(thrown)));
    // Whoever awaits `ended` sees a rejection; it must not count as unhandled before that.
    this.#ended.promise.catch(() => {});
  }

  /**
   * @param tap of `log`: its lines about experiments go to the coordinator
   * @throws {FleetError} ENGINE_UNAVAILABLE, PORT_IN_USE, USAGE
   */
  static async start(config: WorkerConfig, log: Log, tap: LogTap): Promise<FleetWorker> {
    const { engine: name, threads, precision } = config;
    if (config.trace) await makeTraceFolder(config.trace.file);
    const engine = await EngineHost.start({ engine: name, threads, precision });
    for (const note of engine.notes) log.info({ event: "engine", engine: engine.name, note });
    log.info({ event: "JPEG decoder", note: describeJpegDecoder() });
    try {
      return new FleetWorker(config, log, tap, await FleetWorker.#open(config, log, engine));
    } catch (thrown) {
      await engine.close();
      throw thrown;
    }
  }

  static async #open(config: WorkerConfig, log: Log, engine: EngineHost): Promise<Parts> {
    const { host, httpPort: port, peerPort, joinToken, transport, workDir } = config;
    const refusals = new Refusals({ reasons: PEER_REFUSAL_REASONS, log, event: "peer refused" });
    const server = await startPeerServer({
      ...{ host, port: peerPort, joinToken, transport },
      onRefused: (reason, peer) => refusals.add(reason, { peer }),
    });
    const metrics = new WorkerMetrics(engine.name, engine.device, refusals, workDir);
    const parts = { engine, checkpoints: new CheckpointHost(), server, metrics };
    if (port === undefined) return { ...parts, http: undefined };
    try {
      const http = await startHttpServer({ host, port, registry: metrics.registry });
      log.info({ event: "metrics are served", port: http.port });
      return { ...parts, http };
    } catch (thrown) {
      await server.close();
      throw thrown;
    }
  }

  /** Resolves when the worker was dismissed; rejects when it can be of no more use. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Finishes the step under way together with its gang, reports it and leaves the fleet. */
  shutDown(because: string): Promise<Departure> {
    this.#leaving ??= this.#leave(because);
    return this.#leaving;
  }

  async #leave(because: string): Promise<Departure> {
    const { engine, checkpoints, server, http } = this.#parts;
    const runner = this.#active?.runner;
    this.#session.send({ $case: "draining", value: { because } });
    runner?.stop(because, { atStepBoundary: true, keepCheckpoint: true });
    let isForced = false;
    const force = setTimeout(() => {
      isForced = true;
      runner?.stop(because, { atStepBoundary: false, keepCheckpoint: true });
    }, DRAIN_TIMEOUT_MS);
    const outcome = await this.#activeDone;
    clearTimeout(force);
    this.#logs.close();
    await this.#session.close();
    await Promise.all([server.close(), http?.close(), engine.close(), checkpoints.close()]);
    const isStopped = outcome?.type === "stopped";
    const isSound = !isStopped || outcome.error.code === "GENERATION_ABORTED";
    return { isDrained: isSound && !isForced };
  }

  /** Leaves for a reason that people have to hear of. */
  #end(error: FleetError): void {
    if (this.#leaving !== undefined) return;
    const settle = (): void => this.#ended.reject(error);
    this.shutDown(error.message).then(settle, settle);
  }

  #openSession(): FleetSession {
    const { coordinators, transport, connectTimeoutMs, reconnectTimeoutMs, threads } = this.#config;
    const { engine, server } = this.#parts;
    return new FleetSession({
      coordinators,
      transport,
      connectTimeoutMs,
      reconnectTimeoutMs,
      log: this.#log,
      register: {
        protocolVersion: PROTOCOL_VERSION,
        softwareVersion: SOFTWARE_VERSION,
        workerId: randomUUID(),
        name: this.#config.name ?? `${hostname()}:${process.pid}`,
        peerAddress: this.#config.advertise ?? server.address,
        engine: engine.name,
        device: engine.device,
        threads,
        joinToken: this.#config.joinToken,
        dedication: toWireDedication(this.#config.dedication),
      },
      running: () => (this.#active ? runningOf(this.#active) : undefined),
      times: () => this.#active?.times,
      onAssignment: (assignment) => this.#take(assignment),
      onAbort: (abort) => this.#stopIfCurrent(abort),
      onDismiss: (because) => {
        this.#log.info({ event: "dismissed by the coordinator", because });
        const { resolve, reject } = this.#ended;
        const left = this.shutDown(`dismissed by the coordinator: ${because}`);
        left.then(() => resolve(), reject);
      },
      onLost: (error) => this.#end(error),
    });
  }

  #stopIfCurrent(abort: Abort): void {
    const { experimentId, generation, because } = abort;
    const active = this.#active;
    if (active?.assignment.experimentId !== experimentId) return;
    if (active.assignment.generation === generation) active.runner.stop(because, abort);
  }

  #take(assignment: Assignment): void {
    if (this.#active || this.#leaving !== undefined) {
      const because = this.#active ? "the worker is busy" : "the worker is leaving";
      this.#reportStopped(assignment, { step: 0, because });
      return;
    }
    const { engine, checkpoints, server } = this.#parts;
    const log = this.#logOf(assignment);
    const parts = { engine, checkpoints, server, log };
    let runner: StageRunner;
    try {
      runner = new StageRunner(assignment, { ...this.#config, ...parts });
    } catch (thrown) {
      this.#reportFailure(assignment, { step: 0, error: FleetError.from(thrown) });
      return;
    }
    this.#active = { assignment, runner, log, step: 0, times: undefined };
    this.#activeDone = this.#runStage(this.#active);
  }

  async #runStage(stage: ActiveStage): Promise<StageOutcome> {
    const { assignment, runner, log } = stage;
    const { rank, peers, experimentId: experiment } = assignment;
    const { metrics } = this.#parts;
    log.info({ event: "assigned", worldSize: peers.length });
    const reporter = new StageReporter(stage, metrics, (progress) =>
      this.#session.send({ $case: "progress", value: progress }),
    );
    metrics.begin({ experiment, stage: runner.stage, rank });
    const outcome = await runner.run(reporter);
    reporter.flushGroup();
    metrics.end();
    this.#active = undefined;
    this.#report(assignment, outcome);
    return outcome;
  }

  #report(assignment: Assignment, outcome: StageOutcome): void {
    if (outcome.type === "stopped") {
      this.#reportFailure(assignment, outcome);
      return;
    }
    this.#logOf(assignment).info({ event: "stage finished", step: outcome.step });
    this.#logs.flush();
    const resultJson = outcome.result ? JSON.stringify(outcome.result) : "";
    this.#session.send({ $case: "result", value: { ...fencing(assignment), resultJson } });
  }

  #reportFailure(
    assignment: Assignment,
    stopped: {
      readonly step: number;
      readonly error: FleetError;
      readonly checkpointStep?: number | undefined;
    },
  ): void {
    const { step, checkpointStep } = stopped;
    const { code, message } = stopped.error;
    this.#logOf(assignment).warn({ event: "stage stopped", step, code, because: message });
    this.#logs.flush();
    if (code !== "GENERATION_ABORTED") {
      const value = { ...fencing(assignment), code, message, unixMs: Date.now(), step };
      this.#session.send({ $case: "failure", value });
    }
    const lostRanks = lostRanksOf(stopped.error);
    this.#reportStopped(assignment, { step, because: message, checkpointStep, lostRanks });
  }

  /** Its lines go to the coordinator. */
  #logOf({ experimentId: experiment, stage, generation, rank }: Assignment): Log {
    return this.#log.child({ experiment, stage: findStage(stage), generation, rank });
  }

  #reportStopped(
    assignment: Assignment,
    report: {
      readonly step: number;
      readonly because: string;
      readonly checkpointStep?: number | undefined;
      readonly lostRanks?: number[];
    },
  ): void {
    const value = { ...fencing(assignment), checkpointStep: undefined, lostRanks: [], ...report };
    this.#session.send({ $case: "stopped", value });
  }
}

function fencing({ experimentId, stage, generation, rank }: Assignment) {
  return { experimentId, stage, generation, rank };
}

function runningOf({ assignment, step }: ActiveStage): Running {
  const { experimentId, stage, generation } = assignment;
  return { experimentId, stage, generation, step };
}

/** `Promise.withResolvers`, which Node 20 does not have. */
function openEnd() {
  let resolve!: () => void;
  let reject!: (error: FleetError) => void;
  const promise = new Promise<void>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
