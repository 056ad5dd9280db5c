import assert from "node:assert/strict";
import path from "node:path";
import { FleetError } from "../../../proto/errors.ts";
import type { Assignment } from "../../../proto/gen/coordinator.ts";
import { parseRecipe } from "../../../proto/recipe.ts";
import type { PeerGroup } from "../../../worker/collective/peer-group.ts";
import type { PeerServer } from "../../../worker/collective/peer-server.ts";
import { CheckpointHost } from "../../../worker/session/checkpoint-host.ts";
import type { StageOutcome } from "../../../worker/session/engine-host.ts";
import { lostRanksOf } from "../../../worker/session/lost-ranks.ts";
import { StageRunner, type StageRunnerOptions } from "../../../worker/session/stage-runner.ts";
import { tinyRecipe, writeImages } from "../../support/cluster.ts";
import { type FaultProxy, startFaultProxy } from "../../support/fault-proxy.ts";
import { tempDir } from "../../support/processes.ts";
import { startLoopbackServer } from "../collective/gang.ts";
import { runnerOptions } from "./runner-options.ts";

const STOPPED = new FleetError("GENERATION_ABORTED", "stopped at a step boundary");
const GIVE_UP = { atStepBoundary: false, keepCheckpoint: false };

describe("a stage that was told to stop", function () {
  this.timeout(20_000);
  const checkpoints = new CheckpointHost();
  let servers: readonly PeerServer[];
  /** Through which they are called. */
  let proxies: readonly FaultProxy[];
  let temporary: { readonly dir: string; remove(): Promise<void> };

  before(async () => {
    temporary = await tempDir();
    await writeImages(path.join(temporary.dir, "data"), { train: 4, val: 1 });
  });
  beforeEach(async () => {
    servers = await Promise.all([startLoopbackServer(), startLoopbackServer()]);
    proxies = await Promise.all(servers.map(({ address }) => startFaultProxy(address)));
  });
  afterEach(() => Promise.all([...servers, ...proxies].map((each) => each.close())));
  after(async () => {
    await checkpoints.close();
    await temporary.remove();
  });

  /** A rank whose engine computes until it is told to stop, and then says only that. */
  function openRank(rank: number): {
    readonly runner: StageRunner;
    readonly group: Promise<PeerGroup>;
    readonly outcome: Promise<StageOutcome>;
  } {
    let endStep!: (outcome: StageOutcome) => void;
    let onGroup!: (group: PeerGroup) => void;
    const step = new Promise<StageOutcome>((resolve) => {
      endStep = resolve;
    });
    const group = new Promise<PeerGroup>((resolve) => {
      onGroup = resolve;
    });
    const engine: StageRunnerOptions["engine"] = {
      run: () => step,
      stop: () => endStep({ type: "stopped", step: 3, checkpointStep: undefined, error: STOPPED }),
      replicaStep: () => 0,
    };
    const workDir = path.join(temporary.dir, "work");
    const own = { engine, checkpoints, server: servers[rank]!, workDir };
    const runner = new StageRunner(assignmentOf(rank), runnerOptions(own));
    const outcome = runner.run({ onGroup, onEvent: () => {}, onSkipped: () => {} });
    return { runner, group, outcome };
  }

  function assignmentOf(rank: number): Assignment {
    const recipe = tinyRecipe(path.join(temporary.dir, "data"), {});
    const pretrain = { ...recipe.pretrain, workers: 2, batchPerWorker: 2 };
    return {
      experimentId: "e1",
      stage: "STAGE_PRETRAIN",
      generation: 4,
      rank,
      peers: proxies.map(({ address }, at) => ({ workerId: `w${at}`, address })),
      recipeJson: JSON.stringify(parseRecipe({ ...recipe, pretrain })),
      formationTimeoutMs: 20_000,
    };
  }

  it("names the rank that its gang had lost before", async () => {
    const [first, second] = [openRank(0), openRank(1)];
    const groups = await Promise.all([first.group, second.group]);
    for (const proxy of proxies) assert.ok(proxy.cut() > 0);
    await groups[0]?.failed;
    // Another rank has told the coordinator.
    first.runner.stop("rank 2 has lost rank 1", GIVE_UP);
    second.runner.stop("rank 2 has lost rank 1", GIVE_UP);
    const outcome = await first.outcome;
    assert.ok(outcome.type === "stopped");
    assert.deepEqual(lostRanksOf(outcome.error), [1]);
    await second.outcome;
  });

  it("names nobody when nobody was lost", async () => {
    const ranks = [openRank(0), openRank(1)];
    await Promise.all(ranks.map(({ group }) => group));
    for (const { runner } of ranks) runner.stop("an operator wants it", GIVE_UP);
    for (const { outcome } of ranks) {
      const ended = await outcome;
      assert.ok(ended.type === "stopped");
      assert.deepEqual(lostRanksOf(ended.error), [], ended.error.message);
    }
  });
});
