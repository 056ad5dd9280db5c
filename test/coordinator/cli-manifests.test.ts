/** `coordinator manifests`, as processes. */

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import type { V1Job } from "@kubernetes/client-node";
import { parseAllDocuments } from "yaml";
import { COORDINATOR_MAIN, type Exit, startNode, tempDir } from "../support/processes.ts";

const run = (...args: readonly string[]): Promise<Exit> =>
  startNode([COORDINATOR_MAIN, "manifests", ...args]).exited();

describe("coordinator manifests", function () {
  this.timeout(60_000);

  it("prints the Jobs of a recipe with its settings and the cluster's template", async () => {
    const scratch = await tempDir();
    try {
      const template = path.join(scratch.dir, "template.yaml");
      await writeFile(template, "spec: {template: {spec: {nodeSelector: {disk: ssd}}}}\n");
      const { code, stdout, stderr } = await run(
        ...["demo", "--set", "pretrain.workers=4", "--overlay", "single-node", "--name", "try-1"],
        ...["--namespace", "mine", "--image", "registry/worker:7", "--template", template],
      );
      assert.equal(code, 0, stderr);
      const documents = parseAllDocuments(stdout).map((document) => document.toJS() as V1Job);
      const [pretrain, linear] = documents;
      assert.equal(pretrain?.metadata?.name, "try-1-pretrain");
      assert.equal(pretrain.metadata.namespace, "mine");
      assert.equal(pretrain.spec?.completions, 4);
      const pod = pretrain.spec.template.spec;
      assert.deepEqual(pod?.nodeSelector, { disk: "ssd" });
      assert.equal(pod?.containers[0]?.image, "registry/worker:7");
      assert.equal(linear?.spec?.suspend, true);
      assert.match(stdout, /^# kubectl -n mine patch job try-1-linear /m);
    } finally {
      await scratch.remove();
    }
  });

  it("prints one JSON list, too, of workers that belong to one experiment", async () => {
    const { stdout } = await run(
      "demo",
      "--json",
      "--overlay",
      "jobset",
      "--experiment",
      "demo-1a",
    );
    const { kind, items } = JSON.parse(stdout);
    assert.equal(kind, "List");
    assert.equal(items[0].kind, "JobSet");
    assert.equal(items[0].metadata.name, "demo-1a");
    assert.match(JSON.stringify(items[0]), /"--experiment","demo-1a"/);
  });

  const refused: readonly (readonly [readonly string[], number, RegExp])[] = [
    [["dem"], 5, /no built-in recipe is called dem; did you mean demo\?/],
    [["demo", "--overlay", "gpu"], 2, /There are single-node, jobset, kueue\./],
    [["demo", "--namespace", "My"], 2, /small letters, digits and -/],
    [["demo", "--set", "data.root=/usr/share"], 2, /data\.root \/usr\/share .* in a pod/],
    [["demo", "--template", "nowhere.yaml"], 5, /--template nowhere\.yaml: no such file/],
  ];
  for (const [args, status, message] of refused) {
    it(`refuses ${args.join(" ")}`, async () => {
      const { code, stdout, stderr } = await run(...args);
      assert.equal(code, status);
      assert.match(stderr, /^error: [^\n]*\n$/);
      assert.match(stderr, message);
      assert.equal(stdout, "");
    });
  }
});
