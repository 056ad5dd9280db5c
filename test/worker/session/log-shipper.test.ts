import assert from "node:assert/strict";
import type { LogLines } from "../../../proto/gen/coordinator.ts";
import { LOG_LINES_MAX } from "../../../proto/limits.ts";
import type { ExperimentLine } from "../../../proto/log-tap.ts";
import { LogShipper } from "../../../worker/session/log-shipper.ts";
import { until } from "../../support/until.ts";

describe("log shipper", () => {
  let isAway = false;
  let sent: LogLines[] = [];
  let shipper: LogShipper;

  beforeEach(() => {
    isAway = false;
    sent = [];
    shipper = new LogShipper((lines) => {
      if (!isAway) sent.push(lines);
      return !isAway;
    });
  });
  afterEach(() => shipper.close());

  const lineOf = (number: number): ExperimentLine => ({
    experimentId: "a-1",
    record: {
      ...{ unixMs: 5, level: "info", generation: 1, rank: 2 },
      ...{ event: `line ${number}`, detailsJson: "", workerName: "" },
    },
  });
  const take = (count: number): void => {
    for (let number = 1; number <= count; number++) shipper.take(lineOf(number));
  };
  const events = (): string[] => sent.flatMap(({ lines }) => lines.map(({ event }) => event));

  it("sends lines together, a moment after the first", async () => {
    take(3);
    assert.equal(sent.length, 0);
    await until("a batch", () => sent.length > 0, 1_500);
    assert.deepEqual(events(), ["line 1", "line 2", "line 3"]);
    assert.equal(sent[0]?.dropped, 0);
  });

  it("sends no more at once than the coordinator takes, and all in the end", () => {
    take(3 * LOG_LINES_MAX + 1);
    shipper.flush();
    assert.deepEqual(
      sent.map(({ lines }) => lines.length),
      [LOG_LINES_MAX, LOG_LINES_MAX, LOG_LINES_MAX, 1],
    );
  });

  it("keeps the newest lines while the coordinator is away, and tells how many it gave up", () => {
    isAway = true;
    take(1_200);
    shipper.flush();
    assert.equal(sent.length, 0);
    isAway = false;
    shipper.flush();
    assert.equal(sent[0]?.dropped, 200);
    assert.ok(sent.slice(1).every(({ dropped }) => dropped === 0));
    assert.equal(events()[0], "line 201");
    assert.equal(events().length, 1_000);
  });

  it("sends what there is when it is closed, and takes nothing after that", () => {
    take(1);
    shipper.close();
    take(1);
    shipper.flush();
    assert.deepEqual(events(), ["line 1"]);
  });
});
