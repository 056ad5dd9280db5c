import assert from "node:assert/strict";
import { type ProcessGroup, soloGroup } from "../../../worker/collective/process-group.ts";
import { runLockStep } from "../../../worker/golden/lock-step-group.ts";
import { ntXent, uninformedLoss } from "../../../worker/loss/nt-xent.ts";
import { ReferenceEngine } from "../../support/reference-engine.ts";
import { randomFloats } from "../model/tiny-model.ts";

const OPTIONS = { dim: 5, temperature: 0.5 };
const ROWS = 16;

const engine = new ReferenceEngine();
const z_GD = randomFloats(1, ROWS * OPTIONS.dim);

/** The definition, in float64, with its full matrix. */
function lossByDefinition(z: Float32Array, { dim, temperature } = OPTIONS): number {
  const rows = Array.from({ length: z.length / dim }, (_, i) => {
    const row = [...z.subarray(i * dim, (i + 1) * dim)];
    const length = Math.hypot(...row) + 1e-10;
    return row.map((value) => value / length);
  });
  const similarity = (i: number, j: number): number =>
    rows[i]!.reduce((sum, value, d) => sum + value * rows[j]![d]!, 0) / temperature;
  const losses = rows.map((_, i) => {
    let sum = 0;
    for (const j of rows.keys()) if (j !== i) sum += Math.exp(similarity(i, j));
    return Math.log(sum) - similarity(i, i ^ 1);
  });
  return losses.reduce((a, b) => a + b) / rows.length;
}

function runAs(worldSize: number, z: Float32Array = z_GD) {
  const share = z.length / worldSize;
  return runLockStep(worldSize, (group) =>
    ntXent(engine, group, z.slice(group.rank * share, (group.rank + 1) * share), OPTIONS),
  );
}

describe("NT-Xent", () => {
  it("is the loss of its definition", () => {
    const { loss } = ntXent(engine, soloGroup, z_GD, OPTIONS);
    assert.ok(Math.abs(loss - lossByDefinition(z_GD)) < 1e-6);
  });

  it("has the gradient that finite differences have, length of the rows included", () => {
    const { dz_RD } = ntXent(engine, soloGroup, z_GD, OPTIONS);
    const scale = Math.max(...dz_RD.map(Math.abs));
    for (const k of z_GD.keys()) {
      const step = (by: number) => z_GD.map((value, at) => (at === k ? value + by : value));
      const [up, down] = [step(1e-3), step(-1e-3)];
      const slope = (lossByDefinition(up) - lossByDefinition(down)) / (up[k]! - down[k]!);
      assert.ok(Math.abs(dz_RD[k]! - slope) < 1e-4 * scale, `dz[${k}]: ${dz_RD[k]}, ${slope}`);
    }
  });

  for (const worldSize of [2, 4, 8]) {
    it(`gives ${worldSize} workers the loss and gradient that one worker has`, () => {
      const alone = ntXent(engine, soloGroup, z_GD, OPTIONS);
      const gang = runAs(worldSize);
      const dz_GD = gang.flatMap(({ dz_RD }) => [...dz_RD]);
      const scale = Math.max(...alone.dz_RD.map(Math.abs));
      for (const [k, expected] of alone.dz_RD.entries()) {
        assert.ok(Math.abs(dz_GD[k]! - expected) < 1e-6 * scale);
      }
      for (const { loss } of gang) assert.equal(loss, gang[0]!.loss);
      assert.ok(Math.abs(gang[0]!.loss - alone.loss) < 1e-6);
    });
  }

  it("makes two all-gathers: of the rows, and of a number a row with the loss", () => {
    const gathered: number[] = [];
    const counting: ProcessGroup = {
      ...soloGroup,
      allGather: (own) => {
        gathered.push(own.length);
        return own.slice();
      },
    };
    ntXent(engine, counting, z_GD, OPTIONS);
    assert.deepEqual(gathered, [ROWS * OPTIONS.dim, ROWS + 3]);
  });

  it("tells every rank whether any wants to stop", () => {
    const others: ProcessGroup = { ...soloGroup, allGather: (own) => own.slice() };
    const run = (wantsStop: boolean) => ntXent(engine, others, z_GD, { ...OPTIONS, wantsStop });
    const [going, stopping] = [run(false), run(true)];
    assert.deepEqual([going.isStopWanted, stopping.isStopWanted], [false, true]);
    assert.deepEqual(stopping.dz_RD, going.dz_RD);
  });

  it("is ln(2N - 1) when all embeddings are the same", () => {
    const collapsed = new Float32Array(ROWS * OPTIONS.dim).fill(0.5);
    const { loss } = ntXent(engine, soloGroup, collapsed, OPTIONS);
    assert.ok(Math.abs(loss - uninformedLoss(ROWS)) < 1e-6);
    assert.ok(Math.abs(uninformedLoss(8192) - 9.0108) < 1e-4);
  });

  it("stays finite for a row of zeros, which has no direction", () => {
    const holed = z_GD.slice().fill(0, 0, OPTIONS.dim);
    const { loss, dz_RD, brokenRank } = ntXent(engine, soloGroup, holed, OPTIONS);
    assert.ok(Number.isFinite(loss));
    assert.ok(dz_RD.every(Number.isFinite));
    assert.equal(brokenRank, undefined);
  });

  it("names the first rank that is not finite", () => {
    const broken = z_GD.slice();
    broken[9 * OPTIONS.dim] = Number.NaN;
    broken[15 * OPTIONS.dim] = Number.POSITIVE_INFINITY;
    for (const { loss, brokenRank } of runAs(4, broken)) {
      assert.ok(Number.isNaN(loss));
      assert.equal(brokenRank, 2);
    }
  });

  it("refuses rows that split a pair", () => {
    const odd = z_GD.slice(0, 3 * OPTIONS.dim);
    assert.throws(() => ntXent(engine, soloGroup, odd, OPTIONS), /whole pairs/);
  });

  it("frees its tensors", () => {
    const before = engine.memory().tensors;
    ntXent(engine, soloGroup, z_GD, OPTIONS);
    assert.equal(engine.memory().tensors, before);
  });
});
