import assert from "node:assert/strict";
import { TfjsEngine } from "../tfjs-engine.ts";
import { wasmKernels } from "./wasm-kernels.ts";

/** Loads the WebAssembly backend, which runs on one thread. */
export async function openWasm(): Promise<TfjsEngine> {
  const tf = await import("@tensorflow/tfjs-core");
  const { BackendWasm, setThreadsCount } = await import("@tensorflow/tfjs-backend-wasm");
  setThreadsCount(1);
  if (!(await tf.setBackend("wasm"))) throw new Error("TensorFlow.js refused the backend");
  const backend = tf.backend();
  assert.ok(backend instanceof BackendWasm);
  return new TfjsEngine({
    name: "tfjs:wasm",
    device: "CPU, 1 thread",
    tf,
    kernels: wasmKernels({ tf, backend }),
  });
}
