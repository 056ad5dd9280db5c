/**
 * Floats on the wire: as they are, or as bfloat16 (the upper half of an f32, rounded to nearest,
 * ties to even). Sums are always taken in f32.
 */

export type Wire = "f32" | "bf16";

export const WIRE_BYTES = { f32: 4, bf16: 2 } as const satisfies Record<Wire, number>;

/** Writes `source` to `target`, which starts on a multiple of 4 bytes. */
export function packFloats(wire: Wire, source: Float32Array, target: Uint8Array): void {
  if (wire === "f32") {
    target.set(bytesOf(source));
    return;
  }
  const bits = new Uint32Array(source.buffer, source.byteOffset, source.length);
  const halves = new Uint16Array(target.buffer, target.byteOffset, source.length);
  for (let i = 0; i < bits.length; i++) halves[i] = bf16Of(bits[i]!);
}

/** Overwrites `target` by what `packFloats` wrote. `payload` may lie anywhere. */
export function storeFloats(wire: Wire, payload: Uint8Array, target: Float32Array): void {
  if (wire === "f32") {
    bytesOf(target).set(payload);
    return;
  }
  const halves = new Uint16Array(aligned(payload), 0, target.length);
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < bits.length; i++) bits[i] = halves[i]! << 16;
}

/** Adds what `packFloats` wrote to `target`. `payload` may lie anywhere. */
export function addFloats(wire: Wire, payload: Uint8Array, target: Float32Array): void {
  const incoming =
    wire === "f32" ? new Float32Array(aligned(payload), 0, target.length) : widened(payload);
  for (let i = 0; i < target.length; i++) target[i]! += incoming[i]!;
}

/** Leaves in `values` exactly what a receiver would read. */
export function roundToWire(wire: Wire, values: Float32Array): void {
  if (wire === "f32") return;
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) bits[i] = bf16Of(bits[i]!) << 16;
}

export function bytesOf(floats: Float32Array): Uint8Array {
  return new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
}

function bf16Of(bits: number): number {
  // Rounding up could turn a NaN into an infinity, or wrap it to zero: keep it a (quiet) NaN.
  if ((bits & 0x7fff_ffff) > 0x7f80_0000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function widened(payload: Uint8Array): Float32Array {
  const halves = new Uint16Array(aligned(payload), 0, payload.byteLength / 2);
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < bits.length; i++) bits[i] = halves[i]! << 16;
  return new Float32Array(bits.buffer);
}

let scratch = new ArrayBuffer(0);

/**
 * The payload at the start of a buffer, until the next call. gRPC hands messages over at byte 5 of
 * theirs, and a typed array cannot start there; a plain copy costs less than reading byte by byte.
 */
function aligned(payload: Uint8Array): ArrayBuffer {
  if (scratch.byteLength < payload.byteLength) scratch = new ArrayBuffer(payload.byteLength);
  new Uint8Array(scratch).set(payload);
  return scratch;
}
