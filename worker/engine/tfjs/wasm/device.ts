import type { BackendWasm } from "@tensorflow/tfjs-backend-wasm";
import type { Raw, Tfjs } from "../kernels.ts";

export interface WasmDevice {
  readonly tf: Tfjs;
  readonly backend: BackendWasm;
}

/** The memory of a tensor. Valid until the next allocation, which may move all tensors. */
export function heapView({ backend }: WasmDevice, x: Raw): Float32Array {
  return backend.typedArrayFromHeap(x) as Float32Array;
}

/** A tensor whose contents are still undefined. */
export function allocate({ tf, backend }: WasmDevice, shape: number[]): Raw {
  return tf.engine().makeTensorFromTensorInfo(backend.makeOutput(shape, "float32"));
}
