/** compose.yaml: that it is right, and of images, folders, options and ports that there are. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { Ajv2019 } from "ajv/dist/2019.js";
import { parse } from "yaml";
import { imageConfig, lineage, readDockerfile, TARGETS } from "../support/dockerfile.ts";
import { COORDINATOR_MAIN, startNode, WORKER_MAIN } from "../support/processes.ts";
import { ROOT } from "../support/sources.ts";

interface Service {
  readonly image: string;
  readonly build?: {
    readonly context: string;
    readonly dockerfile: string;
    readonly target: string;
  };
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
  readonly healthcheck?: { readonly test?: readonly string[]; readonly disable?: boolean };
  readonly restart?: string;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
}

const DEPLOY = path.join(ROOT, "deploy");
const text = readFileSync(path.join(DEPLOY, "compose.yaml"), "utf8");
/** With `<<`, as compose reads it. */
const { name, ...compose } = parse(text, { merge: true }) as {
  readonly name: string;
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, null>>;
};
const services = Object.entries(compose.services);

describe("compose.yaml", () => {
  it("follows the Compose Specification", () => {
    const schema = readFileSync(path.join(ROOT, "test/fixtures/compose/compose-spec.json"), "utf8");
    // Names that no reference uses, in a form that newer drafts of JSON schema do not have.
    const plain = JSON.parse(schema, (key, value: unknown) =>
      /^(id|\$schema)$/.test(key) && typeof value === "string" ? undefined : value,
    ) as Record<string, unknown>;
    const ajv = new Ajv2019({ strict: false, validateFormats: false, allErrors: true });
    const isValid = ajv.compile(plain);
    assert.ok(isValid(compose), JSON.stringify(isValid.errors));
    assert.match(name, /^[a-z0-9][a-z0-9_-]*$/);
    const { redis, ...others } = compose.services;
    assert.ok(!isValid({ services: { ...others, redis: { ...redis, imgae: "redis" } } }));
  });

  it("refers to what there is", () => {
    for (const [service, { image, build, depends_on = {}, volumes = [] }] of services) {
      assert.match(image, /^[\w./-]+:[\w.-]*\d[\w.-]*$/, `${service} has a pinned tag`);
      if (build) {
        const file = path.join(DEPLOY, build.context, build.dockerfile);
        assert.ok(existsSync(file), file);
        assert.ok(TARGETS.some((target) => target === build.target));
        assert.equal(image.split(":")[0], `simclr-fleet/${build.target}`);
      }
      for (const needed of Object.keys(depends_on)) assert.ok(needed in compose.services, needed);
      for (const volume of volumes) {
        const source = volume.replace(/\$\{\w+:-(\w+)\}/, "$1").split(":")[0] ?? "";
        const isThere = source.startsWith(".")
          ? existsSync(path.join(DEPLOY, source))
          : source in compose.volumes;
        assert.ok(isThere, `${service}: ${volume}`);
      }
    }
  });

  it("waits for what can be waited for", () => {
    for (const [service, { depends_on = {} }] of services) {
      for (const [needed, { condition }] of Object.entries(depends_on)) {
        const { build, healthcheck, restart } = compose.services[needed] ?? {};
        const hasHealth = healthcheck?.test !== undefined || (build && !healthcheck?.disable);
        if (condition === "service_healthy") assert.ok(hasHealth, `${service} of ${needed}`);
        else assert.deepEqual([condition, restart], ["service_completed_successfully", "no"]);
      }
    }
  });

  it("confines every service, and publishes ports on this machine only", () => {
    for (const [service, { read_only, cap_drop, security_opt, ports = [] }] of services) {
      assert.deepEqual(
        { read_only, cap_drop, security_opt },
        { read_only: true, cap_drop: ["ALL"], security_opt: ["no-new-privileges:true"] },
        service,
      );
      for (const port of ports) assert.match(port, /^127\.0\.0\.1:(\d+):\1$/, service);
    }
  });

  it("publishes, and scrapes, ports that the images expose", () => {
    const portsOf = (target: string): readonly number[] =>
      imageConfig(lineage(readDockerfile(), target)).ports;
    const { coordinator, worker } = compose.services;
    const published = coordinator?.ports?.map((port) => Number(port.split(":").at(-1)));
    assert.deepEqual(published, portsOf("coordinator"));
    const options = worker?.command?.filter((word) => /-port=/.test(word)) ?? [];
    assert.deepEqual(
      options.map((option) => Number(option.split("=")[1])),
      portsOf("worker-cpu"),
    );
    const scraped = readFileSync(path.join(DEPLOY, "prometheus/prometheus-compose.yml"), "utf8");
    assert.match(scraped, /"coordinator:9464"/);
    assert.match(scraped, /names: \[worker\]\s+type: A\s+port: 9465/);
  });

  it("gives Prometheus a configuration that it takes", function () {
    this.timeout(10_000);
    const file = path.join(DEPLOY, "prometheus", "prometheus-compose.yml");
    assert.ok(compose.services["prometheus"]?.command?.join(" ").includes(path.basename(file)));
    assert.match(
      execFileSync("promtool", ["check", "config", file], { encoding: "utf8" }),
      /SUCCESS/,
    );
  });

  it("gives commands options that they know, and the token to all that want it", async function () {
    this.timeout(20_000);
    for (const [service, { image, command = [], environment = {} }] of services) {
      if (!image.startsWith("simclr-fleet/")) continue;
      const main = image.includes("/worker") ? WORKER_MAIN : COORDINATOR_MAIN;
      const { code, stdout } = await startNode([main, command[0] ?? "", "--help"]).exited();
      assert.equal(code, 0, service);
      for (const option of command.join(" ").match(/--[\w-]+/g) ?? []) {
        assert.match(stdout, new RegExp(`^  ${option} `, "m"), `${service}: ${option}`);
      }
      if (command[0] !== "demo") assert.ok("SIMCLR_JOIN_TOKEN" in environment, service);
    }
  });

  it("asks for the token before it starts anything", () => {
    const required = text.match(/\$\{SIMCLR_JOIN_TOKEN:\?[^}]+deploy\/\.env\}/g) ?? [];
    assert.equal(required.length, 1);
    assert.equal(text.match(/\$\{SIMCLR_JOIN_TOKEN/g)?.length, 1);
  });
});
