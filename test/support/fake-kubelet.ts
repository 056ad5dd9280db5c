/**
 * Runs the pods of Jobs as real processes on this machine: what is only there in a cluster
 * (addresses, volumes, another engine) is replaced in their arguments, everything else is theirs.
 */

import type { V1Job } from "@kubernetes/client-node";
import type { FakeKubernetes, JobChange } from "./fake-kubernetes.ts";
import { startNode, type TestProcess, WORKER_MAIN } from "./processes.ts";

interface Place {
  /** HOST:PORT. */
  readonly coordinator: string;
  readonly workDir: string;
  /** The pods' `/`, at which relative paths begin. */
  readonly root: string;
}

export class FakeKubelet {
  /** "created a-1-pretrain" and the like. */
  readonly changes: string[] = [];
  readonly #kubernetes: FakeKubernetes;
  readonly #place: () => Place;
  readonly #pods = new Map<string, readonly TestProcess[]>();

  /** @param place asked when a Job is created */
  constructor(kubernetes: FakeKubernetes, place: () => Place) {
    this.#kubernetes = kubernetes;
    this.#place = place;
    kubernetes.onChange = (change) => this.#follow(change);
  }

  /** Every pod that was ever started, by the name of its Job. */
  get pods(): ReadonlyMap<string, readonly TestProcess[]> {
    return this.#pods;
  }

  async close(): Promise<void> {
    this.#kubernetes.onChange = () => {};
    await Promise.all([...this.#pods.values()].flat().map((pod) => pod.end("SIGKILL")));
  }

  #follow({ type, job }: JobChange): void {
    const name = job.metadata?.name ?? "";
    this.changes.push(`${type} ${name}`);
    if (type === "created") this.#run(name, job);
    else for (const pod of this.#pods.get(name) ?? []) void pod.end("SIGTERM");
  }

  #run(name: string, job: V1Job): void {
    const [container] = job.spec?.template.spec?.containers ?? [];
    const place = this.#place();
    const args = localArgs(container?.args ?? [], place);
    const pods = Array.from({ length: job.spec?.completions ?? 1 }, () =>
      startNode([WORKER_MAIN, ...args], { cwd: place.root }),
    );
    this.#pods.set(name, pods);
    void this.#report(name, pods);
  }

  /** A Job is complete when every pod has ended with 0. */
  async #report(name: string, pods: readonly TestProcess[]): Promise<void> {
    const exits = await Promise.all(pods.map((pod) => pod.exited()));
    const isThere = this.#kubernetes.jobNames().includes(name);
    if (!isThere || exits.some(({ code }) => code !== 0)) return;
    const conditions = [{ type: "Complete", status: "True" }];
    this.#kubernetes.setStatus(name, { succeeded: pods.length, conditions });
  }
}

function localArgs(args: readonly string[], { coordinator, workDir }: Place): readonly string[] {
  const replaced: Readonly<Record<string, string>> = {
    "--coordinator": coordinator,
    "--host": "127.0.0.1",
    "--peer-port": "0",
    "--http-port": "0",
    "--work-dir": workDir,
    "--engine": "tfjs:wasm",
    "--name": "pod",
  };
  const local = args.map((arg, index) => replaced[args[index - 1] ?? ""] ?? arg);
  const advertise = local.indexOf("--advertise");
  return advertise < 0 ? local : local.toSpliced(advertise, 2);
}
