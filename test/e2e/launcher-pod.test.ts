/** A coordinator that launches workers with what Kubernetes gives to each pod, and nothing else. */

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { stringify } from "yaml";
import type { FleetView } from "../../coordinator/http/fleet-view.ts";
import { tinyRecipe } from "../support/cluster.ts";
import { FakeKubernetes } from "../support/fake-kubernetes.ts";
import {
  COORDINATOR_MAIN,
  startNode,
  startProcess,
  type TestProcess,
  tempDir,
} from "../support/processes.ts";
import { until } from "../support/until.ts";

const ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";
/** With the folder $0 in place of the account, for this process alone. That wants root. */
const IN_POD = `
set -e
mount -t tmpfs tmpfs /var/run
mkdir -p ${ACCOUNT}
mount --bind "$0" ${ACCOUNT}
exec "$@"
`;
const NOTICE_MS = 20_000;

describe("a coordinator in a pod of its own", function () {
  this.timeout(60_000);
  let kubernetes: FakeKubernetes;
  let folder: Awaited<ReturnType<typeof tempDir>>;
  let recipe = "";
  let coordinator: TestProcess | undefined;

  before(async () => {
    folder = await tempDir();
    kubernetes = await FakeKubernetes.start("member");
    recipe = path.join(folder.dir, "recipe.yaml");
    await writeFile(recipe, stringify(tinyRecipe("data", {})));
  });
  afterEach(() => coordinator?.end());
  after(async () => {
    await kubernetes.close();
    await folder.remove();
  });

  /** Starts the coordinator and submits an experiment. */
  const submit = async (account: string) => {
    const ports = ["--grpc-port", "0", "--http-port", "0", "--state-dir", `${account}-state`];
    const command = [COORDINATOR_MAIN, "start", ...ports, "--json", "--launcher", "kubernetes"];
    const service = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBECONFIG: "", HOME: folder.dir };
    coordinator = startProcess(
      "unshare",
      ["--mount", "sh", "-c", IN_POD, account, process.execPath, ...command],
      { env: { ...service, KUBERNETES_SERVICE_PORT: String(kubernetes.port) } },
    );
    const [line] = await coordinator.output(/^\{.*\}$/m);
    const { grpc, http } = JSON.parse(line) as { readonly grpc: string; readonly http: string };
    const cli = async (...args: string[]): Promise<string> => {
      const asked = startNode([COORDINATOR_MAIN, ...args, "--coordinator", grpc, "--json"]);
      const { code, stdout, stderr } = await asked.exited();
      assert.equal(code, 0, stderr);
      return stdout;
    };
    const { id } = JSON.parse(await cli("submit", recipe)) as { readonly id: string };
    return { id, http, cancel: () => cli("cancel", id) };
  };

  it("creates and deletes Jobs over TLS, by its token, in its namespace", async () => {
    const account = await kubernetes.writeAccount(path.join(folder.dir, "known"), {
      namespace: "vision",
    });
    const { id, cancel } = await submit(account);
    await until("its Job", () => kubernetes.jobNames().includes(`${id}-pretrain`), NOTICE_MS);
    assert.equal(kubernetes.job(`${id}-pretrain`).metadata?.namespace, "vision");
    await cancel();
    await until("it to be deleted", () => kubernetes.jobs().length === 0, NOTICE_MS);
  });

  it("tells nothing to a server that its CA does not know, and says so", async () => {
    const account = await kubernetes.writeAccount(path.join(folder.dir, "misled"), {
      ca: "stranger-ca",
    });
    const before = kubernetes.requests.length;
    const { http } = await submit(account);
    const isTold = async (): Promise<boolean> => {
      const { experiments } = (await (await fetch(`${http}/api/fleet`)).json()) as FleetView;
      return /cannot list Jobs at https:\S+: .*certificate/.test(experiments[0]?.reason ?? "");
    };
    await until("the experiment to say it", isTold, NOTICE_MS);
    assert.equal(kubernetes.requests.length, before);
  });
});
