/** What must not hurt: wrong messages of workers and of operators, over real gRPC. */

import assert from "node:assert/strict";
import { credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { OperatorClient } from "../../coordinator/cli/operator-client.ts";
import { OperatorServiceClient } from "../../proto/gen/coordinator.ts";
import { fromServiceError } from "../../proto/grpc-errors.ts";
import { VERSION_METADATA_KEY } from "../../proto/limits.ts";
import { parseRecipe } from "../../proto/recipe.ts";
import { findRecipe } from "../../proto/recipes/registry.ts";
import { PLAINTEXT } from "../../proto/transport.ts";
import { useRig } from "./coordinator-rig.ts";
import { FakeWorker, joinFleet, STAGES } from "./fake-worker.ts";
import { openRaw } from "./raw-session.ts";

describe("bad message", function () {
  this.timeout(20_000);
  const rig = useRig();

  describe("of a worker that joins ends its session when", () => {
    const refuses = async (
      register: ConstructorParameters<typeof FakeWorker>[2],
      code: string,
      message: RegExp,
      id = "w0",
    ): Promise<void> => {
      const error = await new FakeWorker(rig().address, id, register).ended();
      assert.equal(error?.code, code);
      assert.match(error?.message ?? "", message);
      assert.deepEqual(await rig().operator.workers(), []);
    };

    it("it speaks another protocol version", () =>
      refuses(
        { protocolVersion: 99 },
        "VERSION_MISMATCH",
        /protocol version 99, this coordinator \d+/,
      ));
    it("its address is none", () =>
      refuses({ peerAddress: "nowhere" }, "USAGE", /register\.peerAddress: must be HOST:PORT/));
    it("its id has odd characters", () => refuses({}, "USAGE", /register\.workerId/, "a b\n"));
    it("it names no engine", () => refuses({ engine: "" }, "USAGE", /register\.engine/));
    it("it claims a stage that there is not", () => {
      const running = { experimentId: "e-1", generation: 1, step: 0 };
      const stage = "STAGE_UNSPECIFIED" as const;
      return refuses({ running: { ...running, stage } }, "USAGE", /no stage STAGE_UNSPECIFIED/);
    });
  });

  it("before `register` ends the session", async () => {
    const raw = openRaw(rig().address);
    // A heartbeat: field 2, no content.
    raw.stream.write(Buffer.from([0x12, 0x00]));
    const error = fromServiceError(await raw.failure, rig().address);
    assert.equal(error.code, "USAGE");
    assert.match(error.message, /first message of a session must be `register`/);
    raw.close();
  });

  it("that is no protobuf ends the session, and nothing else", async () => {
    const raw = openRaw(rig().address);
    raw.stream.write(Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff]));
    await raw.failure;
    raw.close();
    assert.deepEqual(await rig().operator.list(), []);
  });

  it("of a member is left out, and its experiment goes on", async () => {
    const worker = await rig().join("w0");
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    const { experimentId, generation } = await worker.accept();
    worker.progress(1);
    await rig().untilState(id, "running");

    const fenced = { experimentId, generation, stage: STAGES.pretrain, rank: 0 };
    worker.progress(2, { loss: Number.NaN });
    worker.progress(3, { lr: Number.POSITIVE_INFINITY });
    worker.progress(3, { allReduceHidden: 1.5 });
    worker.say("result", { ...fenced, generation: 0, resultJson: "{}" });
    worker.say("stopped", {
      ...fenced,
      experimentId: "no such\nexperiment",
      step: 1,
      checkpointStep: undefined,
      because: "",
      lostRanks: [],
    });
    worker.say("heartbeat", {
      running: { experimentId, generation, stage: "STAGE_UNSPECIFIED", step: 1 },
      rssBytes: 1,
    });
    worker.progress(4);
    const { progress } = await rig().untilExperiment(id, "at 4", (one) => one.progress?.step === 4);
    assert.equal(progress?.loss, 4.25);

    worker.finish(0, "this is no JSON");
    const { stage, pretrainResultJson } = await rig().untilExperiment(
      id,
      "in linear",
      (one) => one.stage === STAGES.linear,
    );
    assert.deepEqual([stage, pretrainResultJson], [STAGES.linear, undefined]);
  });

  it("of a stranger does not touch an experiment", async () => {
    const worker = await rig().join("w0");
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    await worker.accept();
    worker.progress(1);
    await rig().untilState(id, "running");

    const stranger = await rig().join("w1");
    stranger.running = worker.running;
    stranger.progress(77);
    stranger.fail(0, "DATA_INVALID", "not mine");
    stranger.finish(0, "{}");
    stranger.running = worker.running;
    stranger.leave(0);
    worker.progress(2);
    const { state } = await rig().untilExperiment(id, "at 2", (one) => one.progress?.step === 2);
    assert.equal(state, "EXPERIMENT_STATE_RUNNING");
  });

  it("with a code that nobody knows counts as unexpected, and long texts are cut", async () => {
    const worker = await rig().join("w0");
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    await worker.accept();
    worker.fail(0, "MADE_UP", "x".repeat(100_000));
    await worker.obey(0);
    const failed = await rig().untilState(id, "failed");
    assert.equal(failed.errorCode, "UNEXPECTED");
    assert.ok(failed.reason.length < 3_000, `${failed.reason.length} characters`);
  });

  it("takes a second connection of the same worker for its present one", async () => {
    const first = await rig().join("w0");
    const second = await rig().join("w0");
    assert.equal((await first.ended())?.code, "STATE_CONFLICT");
    await rig().submit({ pretrain: 1, linear: 1 });
    await second.accept();
  });

  describe("of an operator is refused when", () => {
    const recipe = parseRecipe(findRecipe("demo"));
    const submit = (more: object) =>
      rig().operator.submit({ recipeJson: JSON.stringify(recipe), priority: 0, name: "", ...more });

    it("the recipe is none", async () => {
      await assert.rejects(submit({ recipeJson: "{" }), { code: "RECIPE_INVALID" });
      await assert.rejects(submit({ recipeJson: JSON.stringify({ ...recipe, seed: -1 }) }), {
        code: "RECIPE_INVALID",
        message: /seed/,
      });
      assert.deepEqual(await rig().operator.list(), []);
    });

    it("the priority is out of range", async () => {
      await assert.rejects(submit({ priority: 5_000 }), {
        code: "USAGE",
        message: /-1000 and 1000/,
      });
    });

    it("the name is too long", async () => {
      await assert.rejects(submit({ name: "n".repeat(101) }), { code: "USAGE" });
    });

    it("there is no such experiment", async () => {
      await assert.rejects(rig().operator.get("nobody"), { code: "NOT_FOUND" });
      await assert.rejects(rig().operator.cancel("nobody"), { code: "NOT_FOUND" });
      await assert.rejects(rig().operator.watch("nobody").next(), { code: "NOT_FOUND" });
    });

    it("it speaks another protocol version", async () => {
      const client = new OperatorServiceClient(rig().address, credentials.createInsecure());
      const metadata = new Metadata();
      metadata.set(VERSION_METADATA_KEY, "99");
      const failure = await new Promise<ServiceError | null>((resolve) => {
        client.getExperiment({ experimentId: "e" }, metadata, (error: ServiceError | null) =>
          resolve(error),
        );
      });
      assert.ok(failure);
      const error = fromServiceError(failure, rig().address);
      assert.equal(error.code, "VERSION_MISMATCH");
      const watched = await new Promise<ServiceError>((resolve) => {
        client.watchExperiment({ experimentId: "e" }, metadata).on("error", resolve).resume();
      });
      assert.equal(fromServiceError(watched, rig().address).code, "VERSION_MISMATCH");
      client.close();
    });
  });
});

describe("join token", function () {
  this.timeout(20_000);
  const rig = useRig({ joinToken: "secret" });

  it("keeps workers out that do not know it", async () => {
    for (const [joinToken, message] of [
      ["", /join token is missing/],
      ["guess", /join token is not this cluster's/],
    ] as const) {
      const error = await new FakeWorker(rig().address, "w0", { joinToken }).ended();
      assert.equal(error?.code, "JOIN_REFUSED");
      assert.match(error?.message ?? "", message);
    }
  });

  it("keeps commands out that do not know it, whatever they ask", async () => {
    for (const [joinToken, message] of [
      ["", /join token is missing/],
      ["guess", /join token is not this cluster's/],
      ["secret\u00e9", /join token is not this cluster's/],
    ] as const) {
      const client = new OperatorClient(rig().address, PLAINTEXT, joinToken);
      const refused = { code: "JOIN_REFUSED", exit: 15, message };
      await assert.rejects(client.list(), refused);
      await assert.rejects(client.get("e"), refused);
      await assert.rejects(client.cancel("e"), refused);
      await assert.rejects(client.retry("e"), refused);
      await assert.rejects(client.workers(), refused);
      await assert.rejects(client.watch("e").next(), refused);
      await assert.rejects(client.submit({ recipeJson: "{}", priority: 0, name: "" }), refused);
      client.close();
    }
    assert.equal(await rig().refused("join-token"), 3 * 7);
    assert.deepEqual(await rig().operator.list(), []);
  });

  it("lets in those that do", async () => {
    const worker = await joinFleet(rig().address, "w0", { joinToken: "secret" });
    const [member] = await rig().operator.workers();
    assert.equal(member?.workerId, "w0");
    worker.close();
  });
});
