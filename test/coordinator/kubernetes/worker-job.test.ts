/** The Job of a stage's workers: what follows from recipe, error table and options. */

import assert from "node:assert/strict";
import type { V1Job } from "@kubernetes/client-node";
import { labelValue, objectName } from "../../../coordinator/kubernetes/object-names.ts";
import {
  renderWorkerJob,
  type WorkerJobOptions,
} from "../../../coordinator/kubernetes/worker-job.ts";
import { ERROR_SPECS, type ErrorCode } from "../../../proto/errors.ts";
import { parseRecipe, type Recipe } from "../../../proto/recipe.ts";
import { applyOverrides } from "../../../proto/recipe-overrides.ts";
import { findRecipe } from "../../../proto/recipes/registry.ts";

const IMAGENET = "simclr_resnet50_16xb256-coslr-200e_in1k";

describe("a worker Job", () => {
  it("has as many workers as the stage has ranks, or as elastic.maxWorkers allows", () => {
    const count = (job: V1Job): unknown => [job.spec?.completions, job.spec?.parallelism];
    assert.deepEqual(count(render()), [16, 16]);
    assert.deepEqual(count(render({ stage: "linear" })), [8, 8]);
    const recipe = recipeWith("elastic.maxWorkers=5", "elastic.minWorkers=2");
    assert.deepEqual(count(render({ recipe })), [4, 4]);
    assert.deepEqual(count(render({ workers: 2 })), [2, 2]);
  });

  it("lets a preempted worker be replaced and one that only a person can help fail the Job", () => {
    const [disrupted, preempted, permanent] = render().spec?.podFailurePolicy?.rules ?? [];
    assert.equal(disrupted?.action, "Ignore");
    assert.deepEqual(disrupted.onPodConditions, [{ type: "DisruptionTarget", status: "True" }]);
    assert.equal(preempted?.action, "Ignore");
    assert.deepEqual(preempted.onExitCodes?.values, [ERROR_SPECS.PREEMPTED.exit]);
    assert.equal(permanent?.action, "FailJob");
    const exits = permanent.onExitCodes?.values ?? [];
    const isPermanent = (code: ErrorCode): boolean => exits.includes(ERROR_SPECS[code].exit);
    for (const code of ["USAGE", "JOIN_REFUSED", "VERSION_MISMATCH", "TLS_REFUSED"] as const) {
      assert.ok(isPermanent(code), code);
    }
    for (const code of ["UNEXPECTED", "COORDINATOR_UNREACHABLE", "ENGINE_UNAVAILABLE"] as const) {
      assert.ok(!isPermanent(code), code);
    }
  });

  it("tells peers the name in the network that its pod has", () => {
    const { args, pod } = read(render({ experimentId: "resnet50-0a1b2c" }));
    const host = "$(JOB_NAME)-$(JOB_COMPLETION_INDEX).simclr-workers:50052";
    assert.equal(args.get("--advertise"), host);
    assert.equal(pod.subdomain, "simclr-workers");
    assert.equal(args.get("--experiment"), "resnet50-0a1b2c");
    assert.equal(args.get("--stage"), "pretrain");
    assert.ok(args.has("--leave-when-over"));
    assert.ok(!read(render()).args.has("--experiment"));
  });

  it("asks for one GPU, or for none and as much memory as the batch takes", () => {
    const gpu = read(render()).worker.resources;
    assert.equal(gpu?.limits?.["nvidia.com/gpu"], "1");
    const memory = (batch: number): number => {
      const recipe = recipeWith(`pretrain.batchPerWorker=${batch}`);
      const { resources } = read(render({ recipe, device: "cpu" })).worker;
      assert.equal(resources?.limits?.["nvidia.com/gpu"], undefined);
      assert.equal(resources?.limits?.["memory"], resources?.requests?.["memory"]);
      return Number.parseInt(resources?.limits?.["memory"] ?? "", 10);
    };
    assert.ok(memory(256) > 4 * memory(32), `${memory(256)} GiB, ${memory(32)} GiB`);
    // The bench saw 2.1 GB with a batch of 8.
    assert.ok(memory(8) >= 3 && memory(8) <= 6, `${memory(8)} GiB`);
  });

  it("has time to finish its step and to write a checkpoint before it is killed", () => {
    const seconds = (recipe: Recipe): number =>
      read(render({ recipe })).pod.terminationGracePeriodSeconds ?? 0;
    assert.ok(seconds(recipeWith("model.width=0.25")) >= 30);
    assert.ok(seconds(recipeWith()) >= 50, `${seconds(recipeWith())} s`);
    assert.ok(seconds(recipeWith("model.width=2")) > seconds(recipeWith()));
  });

  it("mounts the data where the recipe looks for it", () => {
    const path = (root: string): string | undefined =>
      read(render({ recipe: recipeWith(`data.root=${root}`) })).worker.volumeMounts?.find(
        ({ name }) => name === "data",
      )?.mountPath;
    assert.equal(path("data/imagenet"), "/data");
    assert.equal(path("/data/imagenet"), "/data");
    assert.equal(path("../photos/./mine"), "/photos");
    for (const root of ["/", ".", "/usr/share/photos", "work_dirs/x", "/data/../etc"]) {
      assert.throws(() => path(root), {
        code: "RECIPE_INVALID",
        message: /data\.root .* in a pod/,
      });
    }
  });

  it("may change nothing but its volumes, as a user without rights", () => {
    const { pod, worker } = read(render());
    assert.equal(pod.securityContext?.runAsNonRoot, true);
    assert.equal(pod.securityContext?.runAsUser, 10_001);
    assert.equal(pod.securityContext?.seccompProfile?.type, "RuntimeDefault");
    assert.equal(pod.automountServiceAccountToken, false);
    assert.equal(worker.securityContext?.readOnlyRootFilesystem, true);
    assert.equal(worker.securityContext?.allowPrivilegeEscalation, false);
    assert.deepEqual(worker.securityContext?.capabilities?.drop, ["ALL"]);
  });

  it("shows its certificate, unless the fleet speaks in plain text", () => {
    const names = (job: V1Job): readonly string[] => read(job).worker.env?.map((v) => v.name) ?? [];
    assert.ok(names(render()).includes("SIMCLR_TLS_KEY"));
    const plain = render({ security: "plaintext" });
    assert.ok(!names(plain).includes("SIMCLR_TLS_KEY"));
    assert.ok(read(plain).args.has("--plaintext"));
    assert.ok(!read(plain).pod.volumes?.some(({ name }) => name === "tls"));
  });
});

describe("names in a cluster", () => {
  it("are made of what a user calls things", () => {
    assert.equal(objectName("simclr_resnet50_16xb256-coslr"), "simclr-resnet50-16xb256-coslr");
    assert.equal(objectName("1_My..Recipe-"), "my-recipe");
    assert.equal(objectName("..."), "simclr");
    assert.equal(objectName("x".repeat(99)).length, 40);
    assert.equal(labelValue(".my run/1."), "my_run_1");
  });
});

function recipeWith(...settings: readonly string[]): Recipe {
  return parseRecipe(applyOverrides(findRecipe(IMAGENET), settings));
}

function render(options: Partial<WorkerJobOptions> = {}): V1Job {
  const job = { recipe: recipeWith(), stage: "pretrain", name: "a", namespace: "simclr" } as const;
  return renderWorkerJob({ ...job, ...options });
}

function read(job: V1Job) {
  const pod = job.spec?.template.spec;
  const worker = pod?.containers[0];
  assert.ok(pod && worker);
  const words = worker.args ?? [];
  const args = new Map(words.map((word, i) => [word, words[i + 1]]));
  return { pod, worker, args };
}
