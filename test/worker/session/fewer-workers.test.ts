import assert from "node:assert/strict";
import path from "node:path";
import type { Assignment } from "../../../proto/gen/coordinator.ts";
import { parseRecipe, type RecipeInput, type StageName } from "../../../proto/recipe.ts";
import type { PeerServer } from "../../../worker/collective/peer-server.ts";
import { CheckpointHost } from "../../../worker/session/checkpoint-host.ts";
import { EngineHost, type StageOutcome } from "../../../worker/session/engine-host.ts";
import { StageRunner } from "../../../worker/session/stage-runner.ts";
import type { StageResult, StepReport } from "../../../worker/train/stage-job.ts";
import { readWeights, tinyRecipe, writeImages } from "../../support/cluster.ts";
import { tempDir } from "../../support/processes.ts";
import { worstError } from "../../support/worst-error.ts";
import { startLoopbackServer } from "../collective/gang.ts";
import { runnerOptions } from "./runner-options.ts";

const RANKS = 4;
/** Shares of 8 of 30 images: an epoch has 3, 3 and 2 images of each rank. */
const BATCH = 3;
const IMAGES_PER_CLASS = 15;
const AT_STEP = { atStepBoundary: true, keepCheckpoint: false };
const STAGES = { pretrain: "STAGE_PRETRAIN", linear: "STAGE_LINEAR" } as const;

interface Ran {
  readonly id: string;
  /** As rank 0 reports them, but with the images of the whole gang. */
  readonly steps: readonly StepReport[];
  readonly result: StageResult;
}

describe("a recipe of 4 ranks", function () {
  this.timeout(120_000);
  const engines: EngineHost[] = [];
  const servers: PeerServer[] = [];
  const checkpoints = new CheckpointHost();
  let temporary: { readonly dir: string; remove(): Promise<void> };
  let generation = 0;

  before(async () => {
    temporary = await tempDir();
    await writeImages(path.join(temporary.dir, "data"), { train: IMAGES_PER_CLASS, val: 3 });
    for (let rank = 0; rank < RANKS; rank++) {
      engines.push(await EngineHost.start({ engine: "tfjs:wasm", threads: 1, precision: "f32" }));
      servers.push(await startLoopbackServer());
    }
  });
  after(async () => {
    await Promise.all([...engines, ...servers, checkpoints].map((each) => each.close()));
    await temporary.remove();
  });

  function openRunner(assignment: Assignment): StageRunner {
    const { rank } = assignment;
    const own = { engine: engines[rank]!, checkpoints, server: servers[rank]! };
    const workDir = path.join(temporary.dir, "work");
    return new StageRunner(assignment, runnerOptions({ ...own, workDir }));
  }

  function assignmentsOf(
    recipe: RecipeInput,
    {
      id,
      stage,
      workers,
    }: { readonly id: string; readonly stage: StageName; readonly workers: number },
  ): Assignment[] {
    generation += 1;
    const peers = servers
      .slice(0, workers)
      .map(({ address }, rank) => ({ workerId: `w${rank}`, address }));
    const recipeJson = JSON.stringify(parseRecipe(recipe));
    return peers.map((_, rank) => ({
      experimentId: id,
      stage: STAGES[stage],
      generation,
      rank,
      peers,
      recipeJson,
      formationTimeoutMs: 30_000,
    }));
  }

  /** @param stopsEarly after the first step, or a few more */
  async function runGang(
    assignments: readonly Assignment[],
    steps: StepReport[],
    stopsEarly: boolean,
  ): Promise<readonly StageOutcome[]> {
    return Promise.all(
      assignments.map((assignment) => {
        const runner = openRunner(assignment);
        const isFirst = assignment.rank === 0;
        return runner.run({
          onGroup: () => {},
          onSkipped: () => assert.fail("an image is unreadable"),
          onEvent: (event) => {
            if (!isFirst) return;
            if (event.type === "running" && stopsEarly) runner.stop("", AT_STEP);
            if (event.type !== "step") return;
            steps.push({ ...event.report, images: event.report.images * assignments.length });
          },
        });
      }),
    );
  }

  /** Runs a stage on gangs of these sizes, each of which but the last stops early. */
  async function run(recipe: RecipeInput, stage: StageName, ...gangs: number[]): Promise<Ran> {
    const id = `run-${generation}`;
    const steps: StepReport[] = [];
    for (const workers of gangs.slice(0, -1)) {
      const assignments = assignmentsOf(recipe, { id, stage, workers });
      for (const outcome of await runGang(assignments, steps, true)) {
        assert.ok(outcome.type === "stopped");
        assert.equal(outcome.error.code, "GENERATION_ABORTED", outcome.error.message);
        assert.equal(outcome.step, steps.length);
      }
    }
    const assignments = assignmentsOf(recipe, { id, stage, workers: gangs.at(-1)! });
    const outcomes = await runGang(assignments, steps, false);
    const failures = outcomes.flatMap((each) => (each.type === "stopped" ? [each.error] : []));
    assert.deepEqual(failures, []);
    const [first] = outcomes;
    assert.ok(first?.type === "finished" && first.result);
    return { id, steps, result: first.result };
  }

  const pretraining = (parts: Partial<RecipeInput["pretrain"]>): RecipeInput => {
    const { pretrain, ...rest } = tinyRecipe(path.join(temporary.dir, "data"), {});
    const optimizer = { type: "lars", lr: 0.01 } as const;
    const own = { workers: RANKS, batchPerWorker: BATCH, epochs: 2, optimizer, ...parts };
    return { ...rest, pretrain: { ...pretrain, ...own } };
  };

  const weightsOf = ({ id }: Ran) =>
    readWeights({ workDir: path.join(temporary.dir, "work") }, id, "pretrain");

  function assertSameLosses(actual: Ran, expected: Ran): void {
    for (const [k, { step, loss, images, lr }] of expected.steps.entries()) {
      const other = actual.steps[k];
      assert.deepEqual([other?.step, other?.lr, other?.images], [step, lr, images]);
      const error = Math.abs(other!.loss - loss) / loss;
      assert.ok(error < 1e-4, `step ${step}: loss ${loss}, with fewer workers ${other!.loss}`);
    }
    assert.equal(actual.steps.length, expected.steps.length);
  }

  it("has the same losses and weights on 4, 2 and 1 workers, and from 4 down to 2", async () => {
    const recipe = pretraining({ syncBatchNorm: false });
    const four = await run(recipe, "pretrain", 4);
    const expected = weightsOf(four);
    assert.deepEqual(
      four.steps.map(({ images }) => images),
      [12, 12, 8, 12, 12, 8],
    );
    assert.notEqual(four.steps[0]?.loss, four.steps[5]?.loss, "training moves the loss");
    for (const gangs of [[2], [1], [4, 2]]) {
      const fewer = await run(recipe, "pretrain", ...gangs);
      assertSameLosses(fewer, four);
      const weights = weightsOf(fewer);
      for (const [name, tensor] of expected) {
        const error = worstError(name, tensor, weights.get(name));
        assert.ok(error < 1e-4, `${name} differs by ${error} on ${gangs} workers`);
      }
      const { world_size: size, ranks, steps } = fewer.result;
      assert.deepEqual({ size, ranks, steps }, { size: gangs.at(-1), ranks: RANKS, steps: 6 });
      for (const [k, { probe }] of four.steps.entries()) {
        assert.ok(Math.abs(probe!.loss - fewer.steps[k]!.probe!.loss) < 1e-3);
      }
    }
  });

  it("has the same losses in the linear stage on 4, 2 and 1 workers", async () => {
    const base = pretraining({});
    const stage = { workers: RANKS, batchPerWorker: BATCH, epochs: 2, init: "random" };
    const recipe: RecipeInput = { ...base, linear: { ...base.linear, ...stage } };
    const four = await run(recipe, "linear", 4);
    assert.equal(four.steps.length, 6);
    for (const workers of [2, 1]) {
      const fewer = await run(recipe, "linear", workers);
      assertSameLosses(fewer, four);
      assert.equal(fewer.result.validation_images, 6);
      assert.equal(fewer.result.top1, four.result.top1);
    }
  });

  it("is refused by a worker of a gang of 3", () => {
    const place = { id: "uneven", stage: "pretrain", workers: 3 } as const;
    const [assignment] = assignmentsOf(pretraining({}), place);
    assert.throws(() => openRunner(assignment!), { code: "USAGE", message: /3 workers cannot/ });
  });
});
