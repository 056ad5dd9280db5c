import assert from "node:assert/strict";
import { LOG_DETAILS_LENGTH_MAX } from "../../proto/limits.ts";
import { openLog } from "../../proto/log.ts";
import { readLogLine } from "../../proto/log-line.ts";
import { prettyLines } from "../../proto/log-pretty.ts";

describe("a line of a log", () => {
  /** What the log hands on; what it prints is kept back. */
  const written = (write: (log: ReturnType<typeof openLog>) => void): string => {
    let line = "";
    const onLine = (json: string): void => {
      line = json;
    };
    write(openLog({ level: "info", process: "test", format: () => "", onLine }));
    return line;
  };

  it("has what child loggers and the line itself say, each under its name", () => {
    const json = written((log) =>
      log
        .child({ experiment: "a-1", stage: "linear", generation: 3, rank: 1 })
        .warn({ event: "storage fails", step: 9, what: "log" }),
    );
    const { experimentId, record } = readLogLine(json) ?? {};
    const { unixMs = 0, ...rest } = record ?? {};
    assert.equal(experimentId, "a-1");
    assert.ok(Math.abs(Date.now() - unixMs) < 60_000);
    assert.deepEqual(rest, {
      ...{ level: "warn", stage: "linear", generation: 3, rank: 1, step: 9 },
      ...{ event: "storage fails", detailsJson: '{"what":"log"}', workerName: "" },
    });
  });

  it("that is about no experiment stays here", () => {
    assert.equal(readLogLine(written((log) => log.info({ event: "engine" }))), undefined);
  });

  it("is cut where it is too long, and stays JSON", () => {
    for (const character of ["x", '"', "\u0001"]) {
      const text = character.repeat(10_000);
      const json = written((log) => log.info({ event: text, experiment: "a-1", text }));
      const { record } = readLogLine(json) ?? {};
      assert.equal(record?.event.length, 500);
      const details = record?.detailsJson ?? "";
      assert.ok(details.length <= LOG_DETAILS_LENGTH_MAX, `${details.length}`);
      assert.ok(JSON.parse(details).cut.startsWith('{"text":"'));
    }
  });

  it("is one line for people, coloured where that is wanted", () => {
    const json = JSON.stringify({
      ...{ level: "info", time: "2026-01-02T03:04:05.678Z", process: "worker", event: "assigned" },
      ...{ experiment: "a-1", generation: 3, rank: 1, step: 9, worldSize: 2 },
    });
    const plain = prettyLines({ isColoured: false, omits: ["process"] })(json);
    const expected =
      '[2026-01-02T03:04:05.678Z] INFO: a-1 g3 rank 1 step 9: assigned {"worldSize":2}\n';
    assert.equal(plain, expected);
    const coloured = prettyLines({ isColoured: true })(json);
    assert.ok(coloured.includes("\u001b[32mINFO"), coloured);
  });
});
