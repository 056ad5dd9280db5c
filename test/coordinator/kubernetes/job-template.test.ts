/** What an administrator lays over the Jobs: what is refused, and what becomes of the rest. */

import assert from "node:assert/strict";
import type { V1Container, V1PodSpec } from "@kubernetes/client-node";
import { parseJobTemplate } from "../../../coordinator/kubernetes/job-template.ts";
import { mergeTemplate } from "../../../coordinator/kubernetes/merge-template.ts";
import { renderWorkerJob } from "../../../coordinator/kubernetes/worker-job.ts";
import { parseRecipe } from "../../../proto/recipe.ts";
import { findRecipe } from "../../../proto/recipes/registry.ts";

const inPod = (text: string): string => `spec: {template: {spec: ${text}}}`;

describe("a Job's template", () => {
  it("changes image, resources, nodes, tolerations and claims, and leaves the rest", () => {
    const { pod, worker } = apply(
      inPod(`{
        nodeSelector: { gpu: h100 },
        tolerations: [{ key: train, operator: Exists }],
        volumes: [{ name: data, nfs: { server: nas, path: /data, readOnly: true } }],
        containers: [{
          name: worker, image: "registry/worker:1", args: [--precision, bf16],
          env: [{ name: POD_NAME, value: fixed }, { name: MORE, value: "1" }],
          resources: { limits: { nvidia.com/gpu: null, amd.com/gpu: "1" } },
        }],
      }`),
    );
    assert.deepEqual(pod.nodeSelector, { gpu: "h100" });
    assert.deepEqual(pod.tolerations, [{ key: "train", operator: "Exists" }]);
    const plain = apply("");
    assert.deepEqual(pod.volumes?.slice(1), plain.pod.volumes?.slice(1));
    assert.deepEqual(pod.volumes?.[0], {
      name: "data",
      nfs: { server: "nas", path: "/data", readOnly: true },
    });
    assert.equal(worker.image, "registry/worker:1");
    assert.deepEqual(worker.args, [...(plain.worker.args ?? []), "--precision", "bf16"]);
    assert.deepEqual(worker.env?.[0], { name: "POD_NAME", value: "fixed" });
    assert.deepEqual(worker.env?.at(-1), { name: "MORE", value: "1" });
    const { memory } = plain.worker.resources?.limits ?? {};
    assert.deepEqual(worker.resources?.limits, { memory, "amd.com/gpu": "1" });
    assert.deepEqual(worker.livenessProbe, plain.worker.livenessProbe);
  });

  it("adds containers, and removes what is null", () => {
    const { pod, worker } = apply(
      inPod("{tolerations: null, containers: [{name: logs, image: fluent-bit:4}]}"),
    );
    assert.ok(!("tolerations" in pod));
    assert.deepEqual(
      pod.containers.map(({ name }) => name),
      ["worker", "logs"],
    );
    assert.deepEqual(worker, apply("").worker);
  });

  const refused: Readonly<Record<string, RegExp>> = {
    "a: [": /t\.yaml, line 1/,
    "- spec": /must be a YAML map/,
    "spec: 3": /spec must be a map/,
    "kind: Pod": /must be a Job of batch\/v1/,
    "spec: {completions: 3}": /spec\.completions is not for a template/,
    "metadata: {name: mine}": /metadata\.name is not for a template/,
    [inPod("{nodeSelecter: {a: b}}")]: /nodeSelecter is unknown \(nearest: nodeSelector\)/,
    [inPod("{nodeSelector: [a]}")]: /nodeSelector must be a map/,
    [inPod("{containers: {name: worker}}")]: /containers must be a list/,
    [inPod("{containers: [{image: x}]}")]: /one has no name/,
    [inPod("{containers: [{name: workr}]}")]: /workr has no image; the worker's is called worker/,
    [inPod("{containers: [{name: worker, command: [sh]}]}")]: /cannot have another command/,
    [inPod("{containers: [{name: worker, env: [{name: A, value: 1}]}]}")]:
      /env\[0\]\.value must be a string: quote it/,
    [inPod('{hostNetwork: "yes"}')]: /hostNetwork must be true or false/,
  };
  for (const [text, message] of Object.entries(refused)) {
    it(`is refused when it is ${text}`, () => {
      assert.throws(() => parseJobTemplate(text, "t.yaml"), { code: "USAGE", message });
    });
  }
});

function apply(text: string): { readonly pod: V1PodSpec; readonly worker: V1Container } {
  const job = renderWorkerJob({
    recipe: parseRecipe(findRecipe("demo")),
    stage: "pretrain",
    name: "a",
    namespace: "simclr",
  });
  const pod = mergeTemplate(job, parseJobTemplate(text, "t.yaml")).spec?.template.spec;
  const worker = pod?.containers[0];
  assert.ok(pod && worker);
  return { pod, worker };
}
