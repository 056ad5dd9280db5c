import assert from "node:assert/strict";
import { pino } from "pino";
import { Refusals } from "../../proto/refusals.ts";

describe("refusals", () => {
  it("are all counted, and logged a few at a time", () => {
    const lines: string[] = [];
    const log = pino({ level: "info" }, { write: (line: string) => lines.push(line) });
    const refusals = new Refusals({ reasons: ["late", "odd"], log, event: "refused" });
    for (let i = 0; i < 5_000; i++) refusals.add("odd", { peer: "a" });
    assert.deepEqual(
      [...refusals.counts],
      [
        ["late", 0],
        ["odd", 5_000],
      ],
    );
    assert.ok(lines.length >= 20 && lines.length < 100, `${lines.length} lines`);
    assert.deepEqual(
      (({ event, reason, peer }) => ({ event, reason, peer }))(JSON.parse(lines[0] ?? "")),
      { event: "refused", reason: "odd", peer: "a" },
    );
  });
});
