/**
 * A real Prometheus scrapes a real cluster, and is asked everything that dashboards and alerts ask.
 *
 * Two experiments train; then a worker of one is killed, and the other one's takes its place.
 */

import assert from "node:assert/strict";
import path from "node:path";
import {
  metricsPortOf,
  processOfRank,
  type ShownExperiment,
  tinyRecipe,
  untilExperiment,
  useCluster,
} from "../support/cluster.ts";
import { startPrometheus, type TestPrometheus } from "../support/prometheus.ts";
import { ROOT } from "../support/sources.ts";
import { until } from "../support/until.ts";
import { readDashboards } from "./dashboard-files.ts";

const SERIES_DEADLINE_MS = 120_000;
const STATE_DEADLINE_MS = 120_000;
/** Longer than the tests: whoever has it trains until it is cancelled. */
const EPOCHS = 100_000;

interface Query {
  /** Where it stands, for people. */
  readonly what: string;
  readonly expr: string;
}

describe("Prometheus on a cluster at work", function () {
  this.timeout(400_000);
  const suite = useCluster({ images: { train: 8, val: 4 }, workers: 0 });
  let prometheus: TestPrometheus | undefined;
  let pretrain = "";
  let linear = "";

  const queriesOf = (...uids: readonly string[]): readonly Query[] =>
    readDashboards()
      .filter(({ uid }) => uids.includes(uid))
      .flatMap(({ uid, panels }) =>
        panels.flatMap(({ title, targets = [] }) =>
          targets.map(({ expr }) => ({ what: `${uid}: ${title}: ${expr}`, expr: filledIn(expr) })),
        ),
      );
  const open = (): TestPrometheus => {
    assert.ok(prometheus, "it runs once the suite's tests do");
    return prometheus;
  };

  /** Asks all of them until all have series at the same time. */
  async function assertAllHaveSeries(queries: readonly Query[]): Promise<void> {
    let without: readonly string[] = [];
    const ask = async (): Promise<boolean> => {
      const found = await Promise.all(queries.map(({ expr }) => open().series(expr)));
      without = queries.flatMap(({ what }, index) => (found[index]?.length === 0 ? [what] : []));
      return without.length === 0;
    };
    await until("every query to have series", ask, SERIES_DEADLINE_MS).catch(() => {});
    assert.deepEqual(without, []);
  }

  before(async () => {
    const { cluster } = suite;
    await cluster.addWorkers(3, "--http-port", "0");
    const ports = await Promise.all(cluster.workers.map(metricsPortOf));
    prometheus = await startPrometheus({
      targets: {
        "simclr-coordinator": [new URL(cluster.http).host],
        "simclr-worker": ports.map((port) => `127.0.0.1:${port}`),
      },
      rules: path.join(ROOT, "deploy", "prometheus", "alerts.yml"),
    });
    await submitAll();
  });
  after(async () => {
    await prometheus?.close();
  });

  async function submitAll(): Promise<void> {
    const { cluster } = suite;
    const stage = { batchPerWorker: 2, epochs: EPOCHS, checkpoint: { everySteps: 50 } };
    // Its data are not there.
    const doomed = await suite.submit(tinyRecipe(path.join(suite.dir, "none"), {}));
    await untilExperiment(cluster, doomed, isIn("failed"), STATE_DEADLINE_MS);
    pretrain = await suite.submit(
      tinyRecipe(suite.data, {
        stages: ["pretrain"],
        pretrain: {
          ...stage,
          workers: 2,
          optimizer: { type: "lars", lr: 0.1 },
          monitor: { everyEpochs: 10, knn: { neighbours: [2] } },
        },
        // Of two ranks one is always slower.
        elastic: { stragglerFactor: 1.000_001 },
      }),
    );
    linear = await suite.submit(
      tinyRecipe(suite.data, {
        stages: ["linear"],
        linear: {
          ...stage,
          name: "tiny-linear",
          workers: 1,
          classes: 2,
          init: "random",
          optimizer: { type: "sgd", lr: 0.1 },
          validation: { resizeEdge: 16, batchPerWorker: 4, everyEpochs: 10 },
        },
      }),
    );
  }

  it("has series for each query of the fleet's and the experiment's dashboard", async () => {
    await assertAllHaveSeries(queriesOf("simclr-fleet", "simclr-experiment"));
  });

  it("finds the values that readers can choose from", async () => {
    const lists = readDashboards().flatMap(({ templating }) => templating.list.slice(1));
    for (const { definition = "" } of lists) {
      const [, match, label] = /^label_values\((.*), (\w+)\)$/.exec(filledIn(definition)) ?? [];
      assert.ok(match && label, definition);
      const values = await open().labelValues(label, match);
      const expected = label === "rank" ? ["0", "1"] : [pretrain, linear].sort();
      assert.deepEqual([...values].sort(), expected, definition);
    }
  });

  it("evaluates every alert without an error", async () => {
    const isEvaluated = async (): Promise<boolean> =>
      (await open().rules()).every(({ health }) => health !== "unknown");
    await until("the alerts to be evaluated", isEvaluated, SERIES_DEADLINE_MS);
    const rules = await open().rules();
    assert.ok(rules.length > 10);
    for (const { name, query, health, lastError } of rules) {
      assert.equal(health, "ok", `${name}: ${lastError}`);
      await open().series(query);
    }
  });

  it("tells a goodput between nothing and all", async () => {
    const share = `sum(simclr_experiment_productive_seconds_total{experiment="${pretrain}"})`;
    const whole = `sum(simclr_experiment_wall_seconds_total{experiment="${pretrain}"})`;
    const [series] = await open().series(`${share} / ${whole}`);
    const goodput = Number(series?.values.at(-1)?.[1]);
    assert.ok(goodput > 0 && goodput < 1, `goodput ${goodput}`);
  });

  it("has series for each query about reliability once a worker was killed", async () => {
    const { cluster } = suite;
    const victim = await processOfRank(cluster, pretrain, 1);
    await victim.end("SIGKILL");
    // The worker that is free with this takes the place.
    await cluster.cli("cancel", linear);
    const goesOn = ({ state, generation, progress }: ShownExperiment): boolean =>
      state === "running" && generation > 2 && progress?.checkpointStep !== undefined;
    await untilExperiment(cluster, pretrain, goesOn, STATE_DEADLINE_MS);
    await assertAllHaveSeries(queriesOf("simclr-reliability"));

    // A worker counts as lost when its lease has run out, and an alert is looked at now and then.
    for (const expr of [
      `simclr_experiment_restarts_total{experiment="${pretrain}", reason="failure"} == 1`,
      'simclr_failures_total{code="DATA_INVALID"} == 1',
      'ALERTS{alertname="SimclrWorkerLost"}',
    ]) {
      const isThere = async (): Promise<boolean> => (await open().series(expr)).length === 1;
      await until(expr, isThere, SERIES_DEADLINE_MS);
    }
  });
});

/** As Grafana would, for everything that can be chosen. */
function filledIn(expr: string): string {
  const filled = expr
    .replaceAll(/\$(experiment|rank)\b/g, ".+")
    .replaceAll("$__rate_interval", "4s");
  assert.ok(!filled.includes("$"), filled);
  return filled;
}

function isIn(state: string): (experiment: ShownExperiment) => boolean {
  return (experiment) => experiment.state === state;
}
