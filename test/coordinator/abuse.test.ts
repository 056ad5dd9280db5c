/** What a coordinator bears: each abuse really happens, is counted, and a gang at work goes on. */

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import type { RefusalReason } from "../../coordinator/control/refusal-reasons.ts";
import type { Experiment } from "../../proto/gen/coordinator.ts";
import { fromServiceError } from "../../proto/grpc-errors.ts";
import { parseRecipe } from "../../proto/recipe.ts";
import { applyOverrides } from "../../proto/recipe-overrides.ts";
import { findRecipe } from "../../proto/recipes/registry.ts";
import { until } from "../support/until.ts";
import { useRig } from "./coordinator-rig.ts";
import { FakeWorker, registerAs, STAGES } from "./fake-worker.ts";
import { openDeafReader, openDeafWatcher, openDeafWorker, openRaw } from "./raw-session.ts";

const WATCHERS = 4;
const NOTHING = { checkpointStep: undefined, because: "", lostRanks: [] };

describe("a coordinator under abuse", function () {
  this.timeout(40_000);
  const rig = useRig({
    limits: {
      connections: {
        all: { perPeer: 60, total: 60 },
        strangers: { perPeer: 20, total: 20 },
        strangerMs: 1_000,
      },
      unregistered: { perPeer: 5, total: 5 },
      registers: { burst: 12, perSecond: 0.001 },
      members: 8,
      messages: { burst: 50, perSecond: 20 },
      unread: 3,
      watchers: { perPeer: WATCHERS, total: WATCHERS },
      watchStallMs: 300,
    },
  });

  /** Two workers at work; `goesOn` fails unless they are so in the same generation, unharmed. */
  async function gangAtWork(): Promise<{
    id: string;
    gang: FakeWorker[];
    goesOn(): Promise<void>;
  }> {
    const gang = await rig().joinAll("w0", "w1");
    const id = await rig().submit({ pretrain: 2, linear: 1 });
    await Promise.all(gang.map((worker) => worker.accept()));
    let step = 1;
    gang[0]?.progress(step);
    const before = await rig().untilState(id, "running");
    const goesOn = async (): Promise<void> => {
      step += 1;
      gang[0]?.progress(step);
      const isThere = (one: Experiment): boolean => one.progress?.step === step;
      const now = await rig().untilExperiment(id, `at step ${step}`, isThere);
      assert.equal(now.state, "EXPERIMENT_STATE_RUNNING");
      assert.deepEqual([now.restarts, now.generation], [0, before.generation]);
      const workers = await rig().operator.workers();
      const states = ["w0", "w1"].map((one) => workers.find(({ workerId }) => workerId === one));
      assert.deepEqual(
        states.map((one) => one?.state),
        ["busy", "busy"],
      );
    };
    return { id, gang, goesOn };
  }

  async function untilRefused(reason: RefusalReason, count: number): Promise<void> {
    await until(`${count} refusals: ${reason}`, async () => (await rig().refused(reason)) >= count);
  }

  /** An experiment of one worker whose every assignment and update has 200 KB. */
  async function submitLarge(): Promise<string> {
    const settings = [
      "pretrain.workers=1",
      "linear.workers=1",
      `description=${"x".repeat(200_000)}`,
    ];
    const recipe = parseRecipe(applyOverrides(findRecipe("demo"), settings));
    const recipeJson = JSON.stringify(recipe);
    return await rig().operator.submit({ recipeJson, priority: 0, name: "" });
  }

  it("closes connections that are too many or say nothing", async () => {
    const { goesOn } = await gangAtWork();
    const { grpcPort } = rig().coordinator;
    const sockets = Array.from({ length: 50 }, () => net.connect(grpcPort, "127.0.0.1"));
    const closed = sockets.map((socket) => once(socket.on("error", () => {}).resume(), "close"));
    await untilRefused("connection", 30);
    await goesOn();
    await Promise.all(closed);
    assert.equal(await rig().refused("connection"), 50);
    await goesOn();
    await rig().join("late");
  });

  it("refuses sessions when too many have not registered", async () => {
    const { goesOn } = await gangAtWork();
    const silent = Array.from({ length: 9 }, () => openRaw(rig().address));
    const refused = await Promise.race(silent.map(({ failure }) => failure));
    assert.equal(fromServiceError(refused, rig().address).code, "OVERLOADED");
    await untilRefused("overloaded", 4);
    await goesOn();
    for (const one of silent) one.close();
    await until("a place", () =>
      rig()
        .join("late")
        .catch(() => undefined),
    );
  });

  it("refuses workers that register too fast", async () => {
    const { goesOn } = await gangAtWork();
    const errors: (string | undefined)[] = [];
    for (let i = 0; i < 14; i++) {
      const intruder = new FakeWorker(rig().address, `i${i}`, { protocolVersion: 99 });
      errors.push((await intruder.ended())?.code);
      intruder.close();
    }
    const expected = [...Array(10).fill("VERSION_MISMATCH"), ...Array(4).fill("OVERLOADED")];
    assert.deepEqual(errors, expected);
    assert.equal(await rig().refused("version"), 10);
    assert.equal(await rig().refused("overloaded"), 4);
    await goesOn();
  });

  it("has a largest number of members", async () => {
    const { goesOn } = await gangAtWork();
    const others = await rig().joinAll(...Array.from({ length: 6 }, (_, i) => `x${i}`));
    const ninth = await new FakeWorker(rig().address, "ninth").ended();
    assert.equal(ninth?.code, "OVERLOADED");
    assert.match(ninth?.message ?? "", /its most members, 8/);
    assert.equal(ninth?.exit, 19);
    await goesOn();
    others[0]?.close();
    await until("x0 to be lost", async () => {
      const workers = await rig().operator.workers();
      return workers.some(({ workerId, state }) => workerId === "x0" && state === "lost");
    });
    await rig().join("instead");
  });

  it("drops a member's flood of heartbeats, and takes what it says of its stage", async () => {
    const { gang, goesOn } = await gangAtWork();
    for (let i = 0; i < 1_000; i++) gang[0]?.beat();
    await goesOn();
    await untilRefused("too-many", 500);
    gang[0]?.finish(0, '{"loss_last":1}');
    gang[1]?.finish(1);
    const next = await gang[0]?.accept();
    assert.equal(next?.stage, STAGES.linear);
  });

  it("counts what is out of order, and goes on", async () => {
    const { id, gang, goesOn } = await gangAtWork();
    const [first] = gang;
    assert.ok(first?.running);
    const own = { ...first.running, rank: 0 };
    first.say("register", registerAs("w0"));
    await untilRefused("registered-twice", 1);

    const idle = await rig().join("idle");
    idle.say("result", { ...own, resultJson: "{}" });
    idle.say("stopped", { ...own, ...NOTHING });
    await untilRefused("unassigned", 2);

    first.say("stopped", { ...own, generation: own.generation + 1, ...NOTHING });
    first.say("result", { ...own, experimentId: "another", resultJson: "{}" });
    await untilRefused("foreign-generation", 2);

    first.say("heartbeat", { running: { ...own, experimentId: "e".repeat(9_000) }, rssBytes: 1 });
    await untilRefused("malformed", 1);
    await goesOn();

    await rig().operator.cancel(id);
    for (const [rank, worker] of gang.entries()) await worker.obey(rank);
    await rig().untilState(id, "cancelled");
    first.say("stopped", { ...own, ...NOTHING });
    await untilRefused("unassigned", 3);
  });

  it("ends sessions that begin with anything but `register`", async () => {
    const { goesOn } = await gangAtWork();
    const raw = [openRaw(rig().address), openRaw(rig().address), openRaw(rig().address)];
    raw[0]?.stream.write(Buffer.from([0x12, 0x00])); // A heartbeat: field 2, empty.
    raw[1]?.stream.write(Buffer.from([0x7a, 0x00])); // Field 15, which there is not.
    raw[2]?.stream.write(Buffer.alloc(3 * 1024 * 1024));
    const failures = await Promise.all(raw.map(({ failure }) => failure));
    const codes = failures.map((failure) => fromServiceError(failure, rig().address).code);
    assert.deepEqual(codes, ["USAGE", "USAGE", "OVERLOADED"]);
    await untilRefused("before-register", 1);
    await untilRefused("unknown", 1);
    for (const one of raw) one.close();
    await goesOn();
  });

  it("sends a worker away that does not read", async () => {
    const { goesOn } = await gangAtWork();
    const deaf = openDeafWorker(rig().address, "deaf");
    for (let round = 0; round < 2; round++) {
      const id = await submitLarge();
      const { generation } = await rig().untilState(id, "forming");
      await rig().operator.cancel(id);
      const fenced = { experimentId: id, stage: STAGES.pretrain, generation, rank: 0, step: 0 };
      deaf.say({ $case: "stopped", value: { ...fenced, ...NOTHING } });
      if (round === 0) await rig().untilState(id, "cancelled");
    }
    await untilRefused("slow-reader", 1);
    await goesOn();
    await deaf.cut;
    await goesOn();
  });

  it("has a largest number of watchers", async () => {
    const { id, goesOn } = await gangAtWork();
    const watches = Array.from({ length: WATCHERS }, () => rig().operator.watch(id));
    await Promise.all(watches.map((watch) => watch.next()));
    const refused = { code: "OVERLOADED", message: /too many watch experiments/ };
    await assert.rejects(rig().operator.watch(id).next(), refused);
    assert.equal(await rig().refused("overloaded"), 1);
    await goesOn();
    await watches[0]?.return();
    await until("a place", async () => {
      const watch = rig().operator.watch(id);
      const first = await watch.next().catch(() => undefined);
      await watch.return();
      return first?.value?.experimentId === id;
    });
    await Promise.all(watches.map((watch) => watch.return()));
  });

  it("sends watchers away that do not read", async () => {
    const { goesOn } = await gangAtWork();
    const id = await submitLarge();
    const deaf = Array.from({ length: WATCHERS }, () => openDeafWatcher(rig().address, id));
    await untilRefused("slow-reader", WATCHERS);
    await Promise.all(deaf.map(({ cut }) => cut));
    await goesOn();
  });

  it("sends readers of logs away that do not read", async () => {
    const { id, goesOn } = await gangAtWork();
    const talker = await rig().join("talker");
    const place = { experimentId: id, stage: STAGES.pretrain, generation: 1, rank: 0, step: 0 };
    const detailsJson = JSON.stringify({ long: "x".repeat(3_500) });
    const about = { unixMs: 1, level: "info", workerName: "", cursor: "", detailsJson };
    const lines = Array.from({ length: 64 }, () => ({ ...place, ...about, event: "talk" }));
    for (let round = 0; round < 20; round++) talker.say("logLines", { lines, dropped: 0 });
    const last = { experimentId: id, rank: undefined, level: "", last: 1, follow: false };
    await until("the lines to be kept", async () => {
      // On a busy machine the reader before may not have left its place.
      const read = await rig()
        .operator.logs(last)
        .next()
        .catch(() => undefined);
      return read?.value?.lines[0]?.cursor === String(20 * 64);
    });
    const { cut } = openDeafReader(rig().address, id);
    await untilRefused("slow-reader", 1);
    await cut;
    await goesOn();
  });

  it("answers what it cannot find in texts that can be sent", async () => {
    for (const start of ["", "x"]) {
      const id = `${start}${"\u{1f600}".repeat(2_000)}`;
      await assert.rejects(rig().operator.get(id), { code: "NOT_FOUND" });
    }
    await rig().join("w0");
  });
});
