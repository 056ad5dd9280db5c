/**
 * What OpenMP, which oneDNN computes with, reads from the environment when it is loaded. The
 * process has to set it in its main thread before an engine is opened.
 */
export const OPENMP_ENVIRONMENT = {
  // Threads that wait for work sleep. Spinning, they would take the cores from the threads that
  // decode images and from other workers on the same machine.
  OMP_WAIT_POLICY: "passive",
  // Bound threads of several workers would all sit on the first cores.
  OMP_PROC_BIND: "false",
} as const;
