/**
 * One rank in a process of its own: peer server and process group on this thread, the engine on
 * another, as in a worker. Joins, trains on made-up batches, tells the bench, and ends.
 */

import { once } from "node:events";
import { FleetError } from "../../../proto/errors.ts";
import { bridgeGroup } from "../../../worker/collective/bridge.ts";
import type { Peer } from "../../../worker/collective/membership.ts";
import { joinGroup } from "../../../worker/collective/peer-group.ts";
import { type PeerServer, startPeerServer } from "../../../worker/collective/peer-server.ts";
import type { SharedBatches } from "../../../worker/data/loaders.ts";
import { CONTROL_WORDS, type StageJob, type StepReport } from "../../../worker/train/stage-job.ts";
import { readProcess } from "../process-tree.ts";
import { RankEngine } from "./rank-engine.ts";
import type {
  RankFindings,
  RankMeasurement,
  RankMessage,
  RankPeers,
  RankTask,
} from "./rank-messages.ts";
import { imagesPretended, stepRecipe } from "./step-spec.ts";

const EXPERIMENT = "bench-step";
const FORMATION_TIMEOUT_MS = 60_000;

/** `pretrain` is handed its batches; those of the job would be for the worker's own thread. */
const NO_BATCHES: SharedBatches = {
  ring: { control: new SharedArrayBuffer(0), slots: [] },
  schedule: { share: 0, batch: 0, stepsPerEpoch: 0, startStep: 0, endStep: 0, views: 2 },
  imageSize: 0,
};

// Nobody is left to tell, and an engine in the middle of an operation would hold up a gentler end.
const endWithBench = (): boolean => process.kill(process.pid, "SIGKILL");
process.once("disconnect", endWithBench);

const [task] = (await once(process, "message")) as [RankTask];
try {
  await tell({ type: "measured", measurement: await measure(task) });
} catch (thrown) {
  await tell({ type: "failed", error: FleetError.from(thrown).toPlain() });
}
process.off("disconnect", endWithBench);
process.exit();

function tell(message: RankMessage): Promise<void> {
  return new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });
}

async function measure({ spec, profile, ...rest }: RankTask): Promise<RankMeasurement> {
  const server = await startPeerServer({ host: "127.0.0.1", port: 0, joinToken: "" });
  const engine = await RankEngine.open({ spec, profile });
  const othersListen = once(process, "message");
  await tell({ type: "listening", address: server.address });
  const [{ peers }] = (await othersListen) as [RankPeers];
  const findings = await train(engine, server, peers, { spec, profile, ...rest });
  const peakRssMb = (readProcess(process.pid)?.peakRssKb ?? Number.NaN) / 1024;
  await engine.close();
  await server.close();
  return { engine: engine.name, device: engine.device, peakRssMb, ...findings };
}

async function train(
  engine: RankEngine,
  server: PeerServer,
  peers: readonly Peer[],
  { rank, spec, folder, timeoutMs }: RankTask,
): Promise<RankFindings> {
  const recipe = stepRecipe(spec);
  const group = await joinGroup({
    server,
    experimentId: EXPERIMENT,
    generation: 1,
    rank,
    peers,
    wire: recipe.collective.wire,
    formationTimeoutMs: FORMATION_TIMEOUT_MS,
    joinToken: "",
    opTimeoutMs: timeoutMs,
  });
  const bridge = spec.world > 1 ? await bridgeGroup(group) : undefined;
  const job: StageJob = {
    experimentId: EXPERIMENT,
    stage: "pretrain",
    generation: 1,
    rank,
    worldSize: spec.world,
    recipe,
    folder,
    logSamples: false,
    traceSteps: 0,
    group: bridge?.link,
    train: NO_BATCHES,
    trainImages: imagesPretended(spec),
    validation: undefined,
    validationImages: 0,
    monitor: undefined,
    classes: [],
    checkpoints: undefined,
    source: { type: "initial" },
    startStep: 0,
    backboneFrom: undefined,
    control: new Int32Array(new SharedArrayBuffer(CONTROL_WORDS * 4)),
  };
  try {
    return await engine.run(job, (report: StepReport) => void tell({ type: "step", report }));
  } catch (thrown) {
    const error = FleetError.from(thrown);
    // The bench must hear of the cause before it hears of its effect on the others.
    await tell({ type: "failed", error: error.toPlain() });
    group.abort(error);
    throw error;
  } finally {
    bridge?.close();
    await group.close();
  }
}
