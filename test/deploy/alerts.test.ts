/** The alert rules for Prometheus: that they are right, and of metrics that there are. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { parse } from "yaml";
import { DASHBOARDS } from "../../deploy/grafana/dashboards.ts";
import { runbookUrl } from "../../deploy/grafana/runbook-url.ts";
import { ROOT } from "../support/sources.ts";
import { exportedMetrics } from "./dashboard-files.ts";

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: {
    readonly summary: string;
    readonly description: string;
    readonly runbook_url: string;
  };
}

/** As far as a case says which alerts there are at some time. */
interface Case {
  readonly promql_expr_test?: readonly {
    readonly expr: string;
    readonly exp_samples: readonly { readonly labels: string }[];
  }[];
  readonly alert_rule_test?: readonly {
    readonly alertname: string;
    readonly exp_alerts: readonly unknown[];
  }[];
}

const PROMETHEUS = path.join(ROOT, "deploy", "prometheus");
const RUNBOOKS = path.join(ROOT, "deploy", "runbooks");
const CASES = path.join(ROOT, "test", "deploy", "alerts.promtool.yml");

describe("the alert rules", function () {
  this.timeout(60_000);
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
    const { tests } = parse(read(CASES)) as { tests: readonly Case[] };
    for (const { alert } of rules) {
      const expected = tests.flatMap((one) => expectations(one, alert));
      assert.ok(expected.includes("fires"), `no case has ${alert} fire`);
      assert.ok(expected.includes("is silent"), `no case has ${alert} be silent`);
    }
    assert.match(promtool("test", "rules", CASES), /SUCCESS/);
  });

  it("have a page each that says what to do, and there is none for another alert", () => {
    const files = rules.map(({ alert, annotations }) => {
      assert.equal(annotations.runbook_url, runbookUrl(alert));
      const file = path.basename(annotations.runbook_url);
      const page = read(path.join(RUNBOOKS, file));
      const headings = page.match(/^#+ .*$/gm);
      const wanted = ["## What it means", "## What to look at", "## What to do"];
      assert.deepEqual(headings, [`# ${alert}`, ...wanted]);
      return file;
    });
    assert.deepEqual(readdirSync(RUNBOOKS).sort(), files.sort());
  });

  it("are linked to by panels that show the same thing", () => {
    const panels = DASHBOARDS.flatMap(({ rows }) => rows.flatMap((row) => row.panels));
    const linked = new Set(panels.flatMap(({ alert }) => alert ?? []));
    const known = new Set(rules.map(({ alert }) => alert));
    assert.deepEqual(
      [...linked].filter((alert) => !known.has(alert)),
      [],
    );
  });

  it("have pages that link to pages there are", () => {
    for (const file of readdirSync(RUNBOOKS)) {
      const links = [...read(path.join(RUNBOOKS, file)).matchAll(/\]\(([^)]+)\)/g)];
      for (const [, to = ""] of links)
        assert.ok(existsSync(path.join(RUNBOOKS, to)), `${file}: ${to}`);
    }
  });

  it("say how bad it is, what is wrong and what to do", () => {
    for (const { alert, labels, annotations } of rules) {
      assert.match(labels.severity, /^(warning|critical)$/, alert);
      assert.ok(annotations.summary && annotations.description, alert);
    }
  });

  it("are of metrics that coordinator or worker export", () => {
    const exported = exportedMetrics();
    const named = new Set(rules.flatMap(({ expr }) => expr.match(/\bsimclr_\w+/g) ?? []));
    assert.ok(named.size > 0);
    assert.deepEqual(
      [...named].filter((name) => !exported.has(name)),
      [],
    );
  });
});

/** What a case expects of an alert, each time that it asks for it. */
function expectations(
  { promql_expr_test: samples = [], alert_rule_test: alerts = [] }: Case,
  alert: string,
): readonly ("fires" | "is silent")[] {
  const ofSamples = samples
    .filter(({ expr, exp_samples: found }) =>
      [expr, ...found.map(({ labels }) => labels)].some((text) => text.includes(`"${alert}"`)),
    )
    .map(({ exp_samples: found }) => found.some(({ labels }) => labels.includes(`"${alert}"`)));
  const ofAlerts = alerts
    .filter(({ alertname }) => alertname === alert)
    .map(({ exp_alerts: found }) => found.length > 0);
  return [...ofSamples, ...ofAlerts].map((isThere) => (isThere ? "fires" : "is silent"));
}
