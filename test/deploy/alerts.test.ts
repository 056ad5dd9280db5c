/** The alert rules for Prometheus: that they are right, and of metrics that there are. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { parse } from "yaml";
import { createMetrics, type MetricsSource } from "../../coordinator/http/metrics.ts";
import { WorkerMetrics } from "../../worker/session/worker-metrics.ts";
import { ROOT } from "../support/sources.ts";

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string };
}

const PROMETHEUS = path.join(ROOT, "deploy", "prometheus");
const CASES = path.join(ROOT, "test", "deploy", "alerts.promtool.yml");

describe("the alert rules", function () {
  this.timeout(20_000);
  const read = (file: string): string => readFileSync(file, "utf8");
  const { groups } = parse(read(path.join(PROMETHEUS, "alerts.yml"))) as {
    groups: { rules: Rule[] }[];
  };
  const rules = groups.flatMap((group) => group.rules);
  const promtool = (...args: string[]): string => {
    try {
      return execFileSync("promtool", args, { encoding: "utf8", stdio: "pipe" });
    } catch (thrown) {
      const { stdout, message } = thrown as { stdout?: string; message: string };
      return assert.fail(`${message}\n${stdout ?? ""}`);
    }
  };

  it("are loaded by the configuration", () => {
    const checked = promtool("check", "config", path.join(PROMETHEUS, "prometheus.yml"));
    assert.match(checked, new RegExp(`${rules.length} rules found`));
  });

  it("are silent while all is well, and fire when it is not", () => {
    const cases = read(CASES);
    for (const { alert } of rules) assert.ok(cases.includes(alert), `no case has ${alert}`);
    assert.match(promtool("test", "rules", CASES), /SUCCESS/);
  });

  it("say how bad it is, what is wrong and what to do", () => {
    for (const { alert, labels, annotations } of rules) {
      assert.match(labels.severity, /^(warning|critical)$/, alert);
      assert.ok(annotations.summary && annotations.description, alert);
    }
  });

  it("are of metrics that coordinator or worker export", () => {
    // Names are given when a registry is made; nothing is read from the source before a scrape.
    const registries = [
      createMetrics({ stateDir: "/" } as MetricsSource),
      new WorkerMetrics("reference", "CPU", { counts: new Map() }, "/").registry,
    ];
    const exported = registries.flatMap((one) => one.getMetricsAsArray().map(({ name }) => name));
    const named = new Set(rules.flatMap(({ expr }) => expr.match(/\bsimclr_\w+/g) ?? []));
    assert.ok(named.size > 0);
    assert.deepEqual(
      [...named].filter((name) => !exported.includes(name)),
      [],
    );
  });
});
