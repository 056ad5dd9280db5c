/**
 * NT-Xent split over the case's workers, compared with PyTorch's gradient of the global mean loss.
 */

import assert from "node:assert/strict";
import { FleetError } from "../../proto/errors.ts";
import type { Engine } from "../engine/engine.ts";
import { ntXent } from "../loss/nt-xent.ts";
import type { Deviations } from "./deviations.ts";
import { type GoldenTensors, type NtXentCase, requireTensor } from "./golden-folder.ts";
import { runLockStep } from "./lock-step-group.ts";

const TOLERANCE = 1e-5;

/** @throws {FleetError} DATA_INVALID when the tensors do not fit the case */
export function runNtXentCase(
  engine: Engine,
  spec: NtXentCase,
  tensors: GoldenTensors,
  deviations: Deviations,
): void {
  const { world, imagesPerWorker, dim, temperature } = spec;
  const shape = [world * 2 * imagesPerWorker, dim].join();
  const z = requireTensor(tensors, "z");
  const dz = requireTensor(tensors, "dz");
  for (const [name, tensor] of Object.entries({ z, dz })) {
    if (tensor.shape.join() === shape) continue;
    throw new FleetError("DATA_INVALID", `${name} is [${tensor.shape.join()}], not [${shape}]`);
  }

  const perRank = 2 * imagesPerWorker * dim;
  const z_GD = Float32Array.from(z.data);
  const results = runLockStep(world, (group) => {
    const begin = group.rank * perRank;
    return ntXent(engine, group, z_GD.slice(begin, begin + perRank), { dim, temperature });
  });

  let scale = 0;
  for (let k = 0; k < dz.data.length; k++) scale = Math.max(scale, Math.abs(dz.data[k]!));
  for (const [rank, { loss, dz_RD }] of results.entries()) {
    const where = `rank ${rank}`;
    assert.equal(loss, results[0]!.loss, "the loss has the same bits on all ranks");
    const lossError = Math.abs(loss - spec.loss) / Math.abs(spec.loss);
    deviations.add({ quantity: "loss", error: lossError, tolerance: TOLERANCE, where });
    for (const [k, actual] of dz_RD.entries()) {
      const error = Math.abs(actual - dz.data[rank * perRank + k]!) / scale;
      deviations.add({ quantity: "dz", error, tolerance: TOLERANCE, where });
    }
  }
}
