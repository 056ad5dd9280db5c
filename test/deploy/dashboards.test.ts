/** The dashboards' JSON, as far as it can be judged without Grafana. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { dashboardFiles } from "../../deploy/grafana/dashboards.ts";
import { ROOT } from "../support/sources.ts";
import { DATASOURCE, exportedMetrics, readDashboards } from "./dashboard-files.ts";

describe("the dashboards", () => {
  const dashboards = readDashboards();
  const panels = dashboards.flatMap((dashboard) =>
    dashboard.panels.map((panel) => ({ ...panel, name: `${dashboard.uid}: ${panel.title}` })),
  );
  const shown = panels.filter(({ type }) => type !== "row");

  it("are what their sources say: `npm run dashboards` writes them anew", () => {
    const folder = path.join(ROOT, "deploy", "grafana", "dashboards");
    const files = dashboardFiles();
    assert.deepEqual(readdirSync(folder).sort(), [...files.keys()].sort());
    for (const [name, text] of files) {
      assert.ok(readFileSync(path.join(folder, name), "utf8") === text, `${name} is out of date`);
    }
  });

  it("have stable names, the reader's time zone, and show what is new by themselves", () => {
    assert.deepEqual(dashboards.map(({ uid }) => uid).sort(), [
      "simclr-experiment",
      "simclr-fleet",
      "simclr-reliability",
    ]);
    for (const { timezone, refresh, schemaVersion, tags } of dashboards) {
      assert.deepEqual([timezone, refresh, tags], ["browser", "10s", ["simclr-fleet"]]);
      assert.ok(schemaVersion >= 42);
    }
  });

  it("leave the choice of Prometheus to the reader, in every panel, query and variable", () => {
    for (const { templating } of dashboards) {
      const [first, ...others] = templating.list;
      assert.deepEqual(
        [first?.name, first?.type, first?.query],
        ["datasource", "datasource", "prometheus"],
      );
      for (const { name, datasource } of others) assert.deepEqual(datasource, DATASOURCE, name);
    }
    for (const { name, datasource, targets = [] } of shown) {
      assert.deepEqual(datasource, DATASOURCE, name);
      for (const target of targets) assert.deepEqual(target.datasource, DATASOURCE, name);
    }
  });

  it("let the reader choose several experiments and ranks, or all of them", () => {
    const chosen = dashboards.map(({ uid, templating }) => {
      const [, ...lists] = templating.list;
      for (const { multi, includeAll, allValue } of lists) {
        assert.deepEqual([multi, includeAll, allValue], [true, true, ".+"]);
      }
      return [uid, ...lists.map(({ name }) => name)];
    });
    assert.deepEqual(chosen.sort(), [
      ["simclr-experiment", "experiment", "rank"],
      ["simclr-fleet", "experiment"],
      ["simclr-reliability", "experiment"],
    ]);
  });

  it("say of each panel what it shows, in which unit, and name each series", () => {
    for (const { name, type, description, fieldConfig, options, targets = [] } of shown) {
      assert.ok(description && description.length > 20, name);
      assert.ok(fieldConfig?.defaults.unit, name);
      assert.ok(targets.length > 0, name);
      for (const { legendFormat } of targets) assert.ok(legendFormat, name);
      if (type === "timeseries") assert.equal(options?.legend?.showLegend, true, name);
    }
  });

  it("give each panel an id and a place of its own", () => {
    for (const { uid, panels: all } of dashboards) {
      assert.equal(new Set(all.map(({ id }) => id)).size, all.length, uid);
      assert.ok(all.every(({ id }) => id > 0));
      const cells = all.flatMap(({ gridPos: { x, y, w, h } }) =>
        Array.from({ length: w * h }, (_, k) => `${x + (k % w)},${y + Math.floor(k / w)}`),
      );
      assert.equal(new Set(cells).size, cells.length, `${uid} has panels on one another`);
      assert.ok(all.every(({ gridPos: { x, w } }) => x + w <= 24));
    }
  });

  it("take rates over what fits the interval of scrapes", () => {
    for (const { name, targets = [] } of shown) {
      for (const { expr } of targets) {
        for (const [, range] of expr.matchAll(/\[([^\]]*)\]/g)) {
          assert.equal(range, "$__rate_interval", name);
        }
      }
    }
  });

  it("ask for metrics that coordinator or worker export", () => {
    const exported = exportedMetrics();
    const asked = shown.flatMap(({ targets = [] }) =>
      targets.flatMap(({ expr }) => expr.match(/\b(simclr|process|nodejs)_\w+/g) ?? []),
    );
    const isExported = (name: string): boolean =>
      exported.has(name) || exported.has(name.replace(/_(sum|count|bucket)$/, ""));
    assert.deepEqual(
      asked.filter((name) => !isExported(name)),
      [],
    );
  });
});
