import koffi from "koffi";

/** Lets OpenMP, which oneDNN computes with, use as many threads for what this thread starts. */
export function setThreads(threads: number): void {
  const openmp = koffi.load("libgomp.so.1");
  openmp.func("void omp_set_num_threads(int threads)")(threads);
}
