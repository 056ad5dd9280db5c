import type { SharedFloats } from "../../../worker/collective/process-group.ts";

export function sharedFloats(values: number | ArrayLike<number>): SharedFloats {
  const length = typeof values === "number" ? values : values.length;
  const floats = new Float32Array(new SharedArrayBuffer(4 * length));
  if (typeof values !== "number") floats.set(values);
  return floats;
}
