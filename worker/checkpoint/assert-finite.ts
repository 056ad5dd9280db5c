import { FleetError } from "../../proto/errors.ts";
import type { NamedTensors } from "../model/model-state.ts";

/** All ones in the numbers that are NaN or infinite. */
const EXPONENT = 0x7f80_0000;

/**
 * @throws {FleetError} LOSS_NOT_FINITE naming the first tensor that has a number which is not: such
 *   a state never replaces a good checkpoint
 */
export function assertFinite(tensors: NamedTensors, step: number): void {
  for (const [name, { data }] of tensors) {
    if (areFinite(data)) continue;
    throw new FleetError("LOSS_NOT_FINITE", `${name} is not finite after step ${step}`, { step });
  }
}

/** On the bits, which takes a tenth of the time of `data.every(Number.isFinite)`. */
function areFinite({ buffer, byteOffset, length }: Float32Array): boolean {
  const bits = new Int32Array(buffer, byteOffset, length);
  for (let index = 0; index < length; index++) {
    if ((bits[index]! & EXPONENT) === EXPONENT) return false;
  }
  return true;
}
