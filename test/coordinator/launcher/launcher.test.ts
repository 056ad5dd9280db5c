/** A coordinator that launches its workers, and an API server that speaks real HTTP. */

import assert from "node:assert/strict";
import path from "node:path";
import { FakeKubernetes, type Fault } from "../../support/fake-kubernetes.ts";
import { tempDir } from "../../support/processes.ts";
import { until } from "../../support/until.ts";
import { useRig } from "../coordinator-rig.ts";

describe("launcher", function () {
  this.timeout(30_000);
  let kubernetes: FakeKubernetes;
  let folder: Awaited<ReturnType<typeof tempDir>>;
  before(async () => {
    folder = await tempDir();
    kubernetes = await FakeKubernetes.start();
    process.env["KUBECONFIG"] = await kubernetes.writeConfig(path.join(folder.dir, "config"));
  });
  after(async () => {
    delete process.env["KUBECONFIG"];
    await kubernetes.close();
    await folder.remove();
  });
  // Before the rig's own, which ends the coordinator.
  afterEach(async () => {
    kubernetes.fault = "none";
    for (const { id } of await experiments())
      await rig()
        .operator.cancel(id)
        .catch(() => {});
    await untilJobs();
  });
  const experiments = async () =>
    (await rig().operator.list()).map(({ experimentId: id, state }) => ({ id, state }));

  const template = { metadata: { labels: { team: "vision" } } };
  const rig = useRig({
    coordinator: {
      launcher: { security: "plaintext", device: "cpu", image: "registry/worker:1", template },
    },
  });

  const untilJobs = (...names: readonly string[]) =>
    until(`the Jobs ${names.join(" and ")}`, () => {
      const isSame = [...kubernetes.jobNames()].sort().join() === [...names].sort().join();
      return isSame || undefined;
    }).catch((cause: unknown) => {
      throw new Error(`there are ${kubernetes.jobNames().join(", ") || "none"}`, { cause });
    });
  /** An experiment of three workers, then two. */
  const submit = () => rig().submit({ pretrain: 3, linear: 2 });
  const messages = async (id: string, type: string): Promise<readonly string[]> =>
    (await rig().operator.events(id, 0)).flatMap((event) =>
      event.type === type ? [event.message] : [],
    );

  it("has a Job for each stage, for it only, and deletes it after that", async () => {
    const id = await submit();
    await untilJobs(`${id}-pretrain`);
    const { metadata, spec } = kubernetes.job(`${id}-pretrain`);
    assert.deepEqual([spec?.completions, spec?.parallelism], [3, 3]);
    assert.equal(metadata?.labels?.["simclr-fleet/experiment"], id);
    assert.equal(metadata?.labels?.["team"], "vision");
    const [worker] = spec?.template.spec?.containers ?? [];
    assert.equal(worker?.image, "registry/worker:1");
    const args = worker?.args?.join(" ") ?? "";
    assert.match(args, new RegExp(`--stage pretrain --experiment ${id} .*--leave-when-over`));
    assert.match(args, /--plaintext$/);

    const workers = await rig().joinAll("w0", "w1", "w2");
    await Promise.all(workers.map((one) => one.accept()));
    for (const [rank, one] of workers.entries()) one.finish(rank, "{}");
    await untilJobs(`${id}-linear`);
    assert.equal(kubernetes.job(`${id}-linear`).spec?.completions, 2);
    await Promise.all(workers.slice(0, 2).map((one) => one.accept()));
    for (const [rank, one] of workers.slice(0, 2).entries()) one.finish(rank, "{}");
    await rig().untilState(id, "succeeded");
    await untilJobs();
    assert.deepEqual(await messages(id, "job-created"), [
      `Job simclr/${id}-pretrain was created for 3 workers`,
      `Job simclr/${id}-linear was created for 2 workers`,
    ]);
  });

  it("deletes the Job of a paused experiment, and creates one when it goes on", async () => {
    const id = await submit();
    await untilJobs(`${id}-pretrain`);
    await rig().operator.pause(id);
    await untilJobs();
    await rig().operator.resume(id);
    await untilJobs(`${id}-pretrain`);
  });

  it("creates nothing twice, and clears up after itself, across a restart", async () => {
    const id = await submit();
    await untilJobs(`${id}-pretrain`);
    const { uid } = kubernetes.job(`${id}-pretrain`).metadata ?? {};
    const ours = kubernetes.job(`${id}-pretrain`);
    const labels = { ...ours.metadata?.labels, "app.kubernetes.io/instance": "other-fleet" };
    const foreign = { ...ours, metadata: { ...ours.metadata, name: "foreign", labels } };
    const annotations = { ...ours.metadata?.annotations, "simclr-fleet/experiment": "gone-1" };
    const orphan = { ...ours, metadata: { ...ours.metadata, name: "orphan", annotations } };
    kubernetes.add(foreign);
    kubernetes.add(orphan);
    await rig().restart();
    await untilJobs(`${id}-pretrain`, "foreign");
    assert.equal(kubernetes.job(`${id}-pretrain`).metadata?.uid, uid);
    const created = kubernetes.requests.filter((one) => one.startsWith("POST"));
    await rig().operator.cancel(id);
    await untilJobs("foreign");
    assert.deepEqual(
      kubernetes.requests.filter((one) => one.startsWith("POST")),
      created,
    );
    kubernetes.remove("foreign");
  });

  it("tells why a Job has failed, and has the experiment wait", async () => {
    const id = await submit();
    await untilJobs(`${id}-pretrain`);
    const message = "Container worker for pod x failed with exit code 15";
    const reason = "PodFailurePolicy";
    kubernetes.setStatus(`${id}-pretrain`, {
      conditions: [{ type: "Failed", status: "True", reason, message }],
    });
    const told = `Job ${id}-pretrain has failed: PodFailurePolicy: ${message}`;
    await rig().untilExperiment(id, "told of its Job", (one) => one.reason.endsWith(told));
    await rig().restart();
    await rig().untilExperiment(id, "told of its Job", (one) => one.reason.endsWith(told));
    assert.deepEqual(await messages(id, "job-failed"), [told]);
  });

  const faults: Readonly<Record<Exclude<Fault, "none" | "silence">, RegExp>> = {
    "500": /cannot list Jobs at http:\S+: 500 etcdserver: request timed out$/,
    "403": /403 jobs\.batch is forbidden: .*; a Role has to allow get, list, create and delete/,
    "429": /429 too many requests/,
    reset: /cannot list Jobs at http:\S+: .*(ECONNRESET|socket hang up)/,
  };
  for (const [fault, told] of Object.entries(faults)) {
    it(`goes on, and launches later, when the API server has a fault: ${fault}`, async () => {
      kubernetes.fault = fault as Fault;
      const id = await submit();
      await rig().untilExperiment(id, "told of it", ({ reason }) => told.test(reason));
      const late = await submit();
      await rig().untilExperiment(late, "told of it", ({ reason }) => told.test(reason));
      assert.match(await metrics(), /^simclr_launcher_problem 1$/m);
      await rig().operator.cancel(late);
      kubernetes.fault = "none";
      await untilJobs(`${id}-pretrain`);
      await rig().untilExperiment(id, "told no more", ({ reason }) => !told.test(reason));
      assert.match(await metrics(), /^simclr_launcher_problem 0$/m);
    });
  }

  const metrics = async (): Promise<string> =>
    await (await fetch(`http://127.0.0.1:${rig().coordinator.httpPort}/metrics`)).text();

  it("can be stopped while the API server does not answer", async () => {
    kubernetes.fault = "silence";
    const before = kubernetes.requests.length;
    await submit();
    await until("a request that hangs", () => kubernetes.requests.length > before);
    await rig().restart();
  });

  it("leaves a Job alone that somebody else has called so, and says it", async () => {
    const id = await submit();
    await untilJobs(`${id}-pretrain`);
    await rig().operator.pause(id);
    await untilJobs();
    kubernetes.add({ metadata: { name: `${id}-pretrain`, namespace: "simclr" } });
    await rig().operator.resume(id);
    const told = `there is a Job ${id}-pretrain already that this coordinator has not made`;
    await rig().untilExperiment(id, "told of it", ({ reason }) => reason.includes(told));
    kubernetes.remove(`${id}-pretrain`);
    await untilJobs(`${id}-pretrain`);
  });
});
