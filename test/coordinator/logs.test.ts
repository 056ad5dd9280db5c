/** Lines of workers' logs at the coordinator: what it keeps, and for whom. */

import assert from "node:assert/strict";
import type { LogLine, LogLines, ReadLogsRequest } from "../../proto/gen/coordinator.ts";
import { Stage } from "../../proto/gen/coordinator.ts";
import { openLog } from "../../proto/log.ts";
import { LogTap } from "../../proto/log-tap.ts";
import { COORDINATOR_MAIN, startNode } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { useRig } from "./coordinator-rig.ts";

function line(experimentId: string, event: string, more: Partial<LogLine> = {}): LogLine {
  return {
    ...{ unixMs: 1_000, level: "info", experimentId, stage: Stage.STAGE_PRETRAIN, generation: 1 },
    ...{ rank: 0, step: 7, event, detailsJson: '{"k":[1]}', workerName: "", cursor: "" },
    ...more,
  };
}

function batch(lines: readonly LogLine[], dropped = 0): LogLines {
  return { lines: [...lines], dropped };
}

describe("the coordinator's logs", function () {
  this.timeout(20_000);
  const rig = useRig();

  const read = async (
    experimentId: string,
    more: Partial<ReadLogsRequest> = {},
  ): Promise<LogLines> => {
    const request = { experimentId, rank: undefined, level: "", last: 0, follow: false, ...more };
    const all: LogLine[] = [];
    let dropped = 0;
    for await (const part of rig().operator.logs(request)) {
      all.push(...part.lines);
      dropped += part.dropped;
    }
    return { lines: all, dropped };
  };
  const untilKept = (id: string, event: string): Promise<LogLines> =>
    until(`${event} to be kept`, async () => {
      const kept = await read(id);
      return kept.lines.some((one) => one.event === event) ? kept : undefined;
    });

  it("have what a worker sends, under the name that it joined with", async () => {
    const id = await rig().submit({ pretrain: 2, linear: 1 });
    const worker = await rig().join("w1");
    const sent = line(id, "spoken", { workerName: "somebody else", cursor: "99" });
    worker.say(
      "logLines",
      batch([sent, line(id, "gang", { rank: undefined, step: undefined })], 4),
    );
    const { lines, dropped } = await untilKept(id, "gang");
    assert.equal(dropped, 4);
    assert.deepEqual(lines[0], { ...sent, workerName: "w1-name", cursor: "5" });
    assert.equal(lines[1]?.rank, undefined);
  });

  it("outlive the worker and the coordinator", async () => {
    const id = await rig().submit({ pretrain: 2, linear: 1 });
    const worker = await rig().join("w1");
    worker.say("logLines", batch([line(id, "last words")]));
    await untilKept(id, "last words");
    worker.close();
    await rig().restart();
    assert.deepEqual(
      (await read(id)).lines.map(({ event }) => event),
      ["last words"],
    );
  });

  it("have nothing that is malformed, too much, or of no experiment", async () => {
    const id = await rig().submit({ pretrain: 2, linear: 1 });
    const worker = await rig().join("w1");
    const bad: Partial<LogLine>[] = [
      { level: "loud" },
      { detailsJson: "{" },
      { detailsJson: "[1]" },
      { detailsJson: JSON.stringify({ long: "x".repeat(5_000) }) },
      { event: "x".repeat(501) },
      { experimentId: "a b" },
    ];
    for (const more of bad) worker.say("logLines", batch([line(id, "bad", more)]));
    const many = Array.from({ length: 65 }, () => line(id, "many"));
    worker.say("logLines", batch(many));
    worker.say("logLines", batch([line("nobody", "stray"), line(id, "kept")]));
    const { lines } = await untilKept(id, "kept");
    assert.deepEqual(
      lines.map(({ event }) => event),
      ["kept"],
    );
    assert.equal(await rig().refused("malformed"), bad.length + 1);
    assert.equal(await rig().refused("unknown-experiment"), 1);
  });

  it("have the coordinator's own lines about the experiment", async () => {
    const tap = new LogTap();
    const log = openLog({ level: "silent", process: "test", onLine: tap.take });
    await rig().reopen({ log, logTap: tap });
    const id = await rig().submit({ pretrain: 2, linear: 1 });
    tap.take(`{"level":"warn","time":"1970-01-01T00:00:01.000Z","experiment":"${id}","event":"e"}`);
    const { lines } = await untilKept(id, "e");
    assert.deepEqual(lines, [
      {
        ...line(id, "e", { level: "warn", rank: undefined, step: undefined, detailsJson: "" }),
        ...{ stage: Stage.STAGE_UNSPECIFIED, generation: 0, cursor: "1" },
      },
    ]);
  });

  it("are followed until the experiment has ended, with its last lines", async () => {
    const id = await rig().submit({ pretrain: 2, linear: 1 });
    const worker = await rig().join("w1");
    const following = read(id, { follow: true });
    worker.say("logLines", batch([line(id, "one")]));
    await untilKept(id, "one");
    worker.say("logLines", batch([line(id, "two")]));
    await untilKept(id, "two");
    await rig().operator.cancel(id);
    assert.deepEqual(
      (await following).lines.map(({ event }) => event),
      ["one", "two"],
    );
    // Of one that has ended there is nothing to wait for.
    assert.equal((await read(id, { follow: true, last: 1 })).lines[0]?.event, "two");
  });

  it("are shown with what is known of a line, whatever it says of itself", async () => {
    const id = await rig().submit({ pretrain: 2, linear: 1 });
    const worker = await rig().join("w1");
    const claims = { level: "fatal", worker: "w9", experiment: "other", cursor: 9, loss: 0.5 };
    const said = { rank: undefined, detailsJson: JSON.stringify({ ...claims, rank: 7 }) };
    worker.say("logLines", batch([line(id, "claims", said)]));
    await untilKept(id, "claims");
    const command = [COORDINATOR_MAIN, "logs", id, "--json", "--coordinator", rig().address];
    const { stdout } = await startNode(command).exited();
    const known = { level: "info", time: "1970-01-01T00:00:01.000Z", process: "worker" };
    const place = { worker: "w1-name", experiment: id, stage: "pretrain", generation: 1, step: 7 };
    assert.deepEqual(JSON.parse(stdout), {
      ...{ ...known, ...place },
      ...{ event: "claims", loss: 0.5, cursor: 1 },
    });
  });

  it("say what is wrong with a request", async () => {
    const id = await rig().submit({ pretrain: 2, linear: 1 });
    await assert.rejects(read("nobody"), { code: "NOT_FOUND" });
    await assert.rejects(read(id, { level: "loud" }), { code: "USAGE" });
  });
});
