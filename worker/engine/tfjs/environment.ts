/**
 * What TensorFlow's native library reads from the environment when it is loaded.
 *
 * The process has to set it in its main thread before an engine is opened: native code does not see
 * what a worker thread writes into its copy of the environment.
 */
export function tensorflowEnvironment(options: {
  readonly threads: number;
}): Readonly<Record<string, string>> {
  return {
    // Errors reach the caller as exceptions; the rest is chatter on standard error.
    TF_CPP_MIN_LOG_LEVEL: "3",
    TF_NUM_INTRAOP_THREADS: String(options.threads),
    TF_NUM_INTEROP_THREADS: "1",
    TF_DETERMINISTIC_OPS: "1",
    // Otherwise one process takes all memory of the GPU.
    TF_FORCE_GPU_ALLOW_GROWTH: "true",
  };
}
