/** A real Prometheus that scrapes what a test tells it to, as often as it can. */

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { stringify } from "yaml";
import { freePort, startProcess, tempDir } from "./processes.ts";
import { until } from "./until.ts";

/** A series of a range query: its labels, and its values as they are in JSON. */
interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly values: readonly (readonly [unixSeconds: number, value: string])[];
}

interface LoadedRule {
  readonly name: string;
  readonly query: string;
  /** "ok" once it was evaluated without an error. */
  readonly health: string;
  readonly lastError?: string;
}

export interface TestPrometheus {
  /** Series with a number within the last seconds; fails for a query that is not understood. */
  series(expr: string): Promise<readonly Series[]>;
  /** Values of a label in the series that match. */
  labelValues(label: string, match: string): Promise<readonly string[]>;
  rules(): Promise<readonly LoadedRule[]>;
  close(): Promise<void>;
}

/** Of the queries: so long ago something still counts as there. */
const WINDOW_S = 4;

/**
 * @param options.targets HOST:PORT by name of the job
 * @param options.rules file with alerts
 */
export async function startPrometheus(options: {
  readonly targets: Readonly<Record<string, readonly string[]>>;
  readonly rules: string;
}): Promise<TestPrometheus> {
  const { dir, remove } = await tempDir();
  const port = await freePort();
  const config = path.join(dir, "prometheus.yml");
  const jobs = Object.entries(options.targets).map(([name, targets]) => {
    return { job_name: name, static_configs: [{ targets }] };
  });
  const global = { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" };
  const settings = { global, rule_files: [options.rules], scrape_configs: jobs };
  await writeFile(config, stringify(settings));
  const server = startProcess("prometheus", [
    `--config.file=${config}`,
    `--storage.tsdb.path=${path.join(dir, "data")}`,
    `--web.listen-address=127.0.0.1:${port}`,
    "--log.level=warn",
  ]);
  const get = async <Data>(where: string, query: Record<string, string> = {}): Promise<Data> => {
    const url = `http://127.0.0.1:${port}/api/v1/${where}?${new URLSearchParams(query)}`;
    const answer = (await (await fetch(url)).json()) as { status: string; data: Data };
    assert.equal(answer.status, "success", `${where} ${query["query"]}: ${JSON.stringify(answer)}`);
    return answer.data;
  };
  const isReady = async (): Promise<boolean> => {
    assert.equal(server.child.exitCode, null, server.stderr());
    const ready = fetch(`http://127.0.0.1:${port}/-/ready`);
    return await ready.then(({ ok }) => ok).catch(() => false);
  };
  await until("Prometheus to be ready", isReady, 30_000);
  return {
    series: async (query) => {
      const end = Date.now() / 1_000;
      const range = { start: String(end - WINDOW_S), end: String(end), step: "1" };
      const { result } = await get<{ result: Series[] }>("query_range", { query, ...range });
      return result.filter(({ values }) => values.some(([, value]) => value !== "NaN"));
    },
    labelValues: (label, match) => get(`label/${label}/values`, { "match[]": match }),
    rules: async () => {
      const { groups } = await get<{ groups: { rules: LoadedRule[] }[] }>("rules");
      return groups.flatMap(({ rules }) => rules);
    },
    close: async () => {
      await server.end();
      await remove();
    },
  };
}
