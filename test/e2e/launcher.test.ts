import assert from "node:assert/strict";
import path from "node:path";
import { readScalars, tinyRecipe, untilExperiment, useCluster } from "../support/cluster.ts";
import { FakeKubelet } from "../support/fake-kubelet.ts";
import { FakeKubernetes } from "../support/fake-kubernetes.ts";
import { COORDINATOR_MAIN, startNode, tempDir } from "../support/processes.ts";
import { until } from "../support/until.ts";

describe("a coordinator that launches its workers on Kubernetes", function () {
  this.timeout(120_000);
  const env: Record<string, string> = {};
  let kubernetes: FakeKubernetes;
  let kubelet: FakeKubelet;
  let folder: Awaited<ReturnType<typeof tempDir>>;
  before(async () => {
    folder = await tempDir();
    kubernetes = await FakeKubernetes.start();
    kubelet = new FakeKubelet(kubernetes, () => {
      const { address: coordinator, workDir } = suite.cluster;
      return { coordinator, workDir, root: suite.dir };
    });
    env["KUBECONFIG"] = await kubernetes.writeConfig(path.join(folder.dir, "config"));
  });
  const suite = useCluster({
    images: { train: 16, val: 4 },
    workers: 0,
    coordinatorFlags: ["--launcher", "kubernetes", "--worker-device", "cpu"],
    env,
  });
  after(async () => {
    await kubelet.close();
    await kubernetes.close();
    await folder.remove();
  });

  /** A pod mounts its data; here it lies where pods begin. */
  const submit = () => {
    const base = tinyRecipe("data", {});
    const two = {
      pretrain: { ...base.pretrain, workers: 2 },
      linear: { ...base.linear, workers: 2 },
    };
    return suite.submit({ ...base, ...two });
  };

  it("takes an experiment through both stages with nobody's help", async () => {
    const { cluster } = suite;
    const id = await submit();
    await untilExperiment(cluster, id, ({ state }) => state === "succeeded", 90_000);
    const [pretrain, linear] = [`${id}-pretrain`, `${id}-linear`];
    await until("the last Job to be deleted", () => kubelet.changes.length === 4);
    assert.deepEqual(kubelet.changes, [
      `created ${pretrain}`,
      `deleted ${pretrain}`,
      `created ${linear}`,
      `deleted ${linear}`,
    ]);
    assert.equal(readScalars(cluster, id, "linear").length, 2);
    for (const job of [pretrain, linear]) {
      const exits = await Promise.all((kubelet.pods.get(job) ?? []).map((pod) => pod.exited()));
      // Those that are quick enough leave by themselves, the others with their Job's deletion.
      const isFine = exits.every(({ code, signal }) => {
        return code === 0 || code === 40 || code === 143 || signal === "SIGTERM";
      });
      assert.ok(isFine, JSON.stringify(exits));
      assert.equal(exits.length, 2);
    }
  });

  it("ends the workers of an experiment that is cancelled", async () => {
    const { cluster } = suite;
    const id = await submit();
    await until("workers", () => kubelet.pods.has(`${id}-pretrain`));
    assert.equal((await cluster.cli("cancel", id)).code, 0);
    await until("them to be sent away", () => kubelet.changes.includes(`deleted ${id}-pretrain`));
    const pods = kubelet.pods.get(`${id}-pretrain`) ?? [];
    await Promise.all(pods.map((pod) => pod.exited()));
    assert.deepEqual(kubernetes.jobs(), []);
  });

  it("does not start with options that lead nowhere", async () => {
    const start = async (flags: readonly string[], config?: string) => {
      const home = { HOME: folder.dir, KUBECONFIG: config ?? "" };
      return await startNode([COORDINATOR_MAIN, "start", "--grpc-port", "0", ...flags], {
        env: home,
        cwd: folder.dir,
      }).exited();
    };
    const launcher = ["--launcher", "kubernetes"];
    const refusals: readonly [readonly string[], string | undefined, RegExp, number][] = [
      [launcher, undefined, /finds no cluster: neither \$KUBECONFIG nor ~\/\.kube\/config/, 2],
      [launcher, "nowhere", /cannot read the kubeconfig: .*nowhere/, 2],
      [["--worker-image", "a"], undefined, /--worker-\* need --launcher kubernetes/, 2],
      [[...launcher, "--worker-template", "none.yaml"], undefined, /none\.yaml: no such file/, 5],
      [["--launcher", "slurm"], undefined, /Allowed choices are kubernetes/, 2],
    ];
    for (const [flags, config, message, code] of refusals) {
      const exit = await start(flags, config);
      assert.match(exit.stderr, message);
      assert.equal(exit.code, code);
    }
  });
});
