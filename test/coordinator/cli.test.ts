/** The `coordinator` command, as processes. */

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import path from "node:path";
import { Server as GrpcServer, ServerCredentials } from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import { OperatorServiceService } from "../../proto/gen/coordinator.ts";
import { toServiceError } from "../../proto/grpc-errors.ts";
import { SOFTWARE_VERSION } from "../../proto/version.ts";
import {
  COORDINATOR_MAIN,
  type Exit,
  freePort,
  startNode,
  startRedis,
  type TestProcess,
  tempDir,
} from "../support/processes.ts";
import { until } from "../support/until.ts";
import { joinFleet } from "./fake-worker.ts";

const run = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Exit> =>
  startNode([COORDINATOR_MAIN, ...args], { env }).exited();

/** Fails unless the command ended with this status and exactly one line that says why. */
function failsWith({ code, stdout, stderr }: Exit, status: number, message: RegExp): void {
  assert.equal(code, status, stderr);
  assert.match(stderr, /^error: [^\n]*\n$/);
  assert.match(stderr, message);
  assert.equal(stdout, "");
}

describe("coordinator command", function () {
  this.timeout(60_000);
  let dir = "";
  let remove = async (): Promise<void> => {};
  before(async () => {
    ({ dir, remove } = await tempDir());
  });
  after(() => remove());

  describe("without a coordinator", () => {
    it("prints its version and its help", async () => {
      assert.equal((await run(["--version"])).stdout, `${SOFTWARE_VERSION}\n`);
      const { code, stdout } = await run(["--help"]);
      assert.equal(code, 0);
      assert.match(stdout, /submit .*\n(.*\n)*Exit status:\n +1 /);
    });

    it("refuses what it does not know", async () => {
      failsWith(await run(["lits"]), 2, /unknown command 'lits'/);
      failsWith(await run(["list", "--jsn"]), 2, /unknown option '--jsn'/);
      failsWith(await run(["start", "--grpc-port", "70000"]), 2, /A port is a whole number/);
      failsWith(await run(["start", "--stop-timeout", "0"]), 2, /whole number of seconds from 1/);
      failsWith(await run(["list", "--coordinator", "nowhere"]), 2, /nowhere is not HOST:PORT/);
    });

    it("lists the recipes", async () => {
      const { stdout } = await run(["recipes"]);
      assert.match(stdout, /^NAME +DESCRIPTION\n/);
      assert.match(stdout, /^simclr_resnet50_16xb256-coslr-800e_in1k +SimCLR on ImageNet-1k/m);
    });

    it("prints a recipe with its model's size, and a changed one as well", async () => {
      const name = "simclr_resnet50_16xb256-coslr-200e_in1k";
      const { stdout } = await run(["recipes", name, "--set", "pretrain.optimizer.lr=2.4"]);
      assert.match(
        stdout,
        /^# pretrain model: 27,968,832 parameters, 4,109,364,224 FLOPs an image$/m,
      );
      assert.match(
        stdout,
        /^# linear model: 25,557,032 parameters, 4,109,464,576 FLOPs an image$/m,
      );
      assert.match(stdout, /^ {4}lr: 2\.4$/m);
      const json = JSON.parse((await run(["recipes", name, "--json"])).stdout);
      assert.equal(json.recipe.pretrain.optimizer.lr, 4.8);
      assert.deepEqual(json.models[0], {
        stage: "pretrain",
        parameters: 27_968_832,
        flops: 4_109_364_224,
      });
    });

    it("reads a recipe from a file, and names the line of a mistake", async () => {
      const file = path.join(dir, "mine.yaml");
      await writeFile(file, "base: demo\nname: mine\nseed: 7\n");
      assert.match((await run(["recipes", file])).stdout, /^name: mine\n(.*\n)*seed: 7$/m);
      await writeFile(file, "base: demo\npretrain:\n  epoch: 7\n");
      failsWith(await run(["recipes", file]), 2, /pretrain\.epoch \(line 3\): unknown key/);
      failsWith(await run(["recipes", path.join(dir, "no.yaml")]), 5, /no\.yaml: no such file/);
      failsWith(await run(["recipes", "dmeo"]), 5, /did you mean demo\?/);
    });

    it("says that nobody answers, with a stack only on demand", async () => {
      const address = `127.0.0.1:${await freePort()}`;
      const env = { SIMCLR_COORDINATOR: address };
      for (const args of [["list"], ["workers", "--json"], ["watch", "e"], ["submit", "demo"]]) {
        failsWith(await run(args, env), 11, new RegExp(`no coordinator answers at ${address}`));
      }
      const { code, stderr } = await run(["list", "--log-level", "debug"], env);
      assert.equal(code, 11);
      assert.match(stderr, /\n {4}at /);
    });

    it("says that the other side is of another version", async () => {
      const mismatch = toServiceError(new FleetError("VERSION_MISMATCH", "protocol version 99"));
      const server = new GrpcServer();
      const { listExperiments } = OperatorServiceService;
      server.addService(
        { listExperiments },
        {
          listExperiments: (_: unknown, callback: (error: typeof mismatch) => void) =>
            callback(mismatch),
        },
      );
      const port = await new Promise<number>((resolve) => {
        server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (_, bound) =>
          resolve(bound),
        );
      });
      const env = { SIMCLR_COORDINATOR: `127.0.0.1:${port}` };
      failsWith(await run(["list"], env), 14, /protocol version 99/);
      failsWith(await run(["workers"], env), 14, /does not know this call/);
      server.forceShutdown();
    });
  });

  describe("start", () => {
    const start = (...args: string[]) => ["start", "--state-dir", path.join(dir, "own"), ...args];

    it("says that a port is taken, and leaves nothing running", async () => {
      const other: Server = createServer();
      const port = await freePort();
      await new Promise<void>((resolve) => {
        other.listen(port, "127.0.0.1", resolve);
      });
      const quiet = ["--log-level", "silent"];
      const grpc = ["--grpc-port", String(port), "--http-port", "0"];
      failsWith(await run(start(...grpc, ...quiet)), 13, /gRPC port 127\.0\.0\.1:\d+ is used/);
      const http = ["--grpc-port", "0", "--http-port", String(port)];
      failsWith(await run(start(...http, ...quiet)), 13, /HTTP port 127\.0\.0\.1:\d+ is used/);
      other.close();
    });

    it("says that Redis does not answer, or that none can be started", async () => {
      const url = `redis://127.0.0.1:${await freePort()}`;
      failsWith(
        await run(start(), { REDIS_URL: url }),
        12,
        /Redis at 127\.0\.0\.1:\d+ cannot be used/,
      );
      failsWith(await run(start(), { PATH: "" }), 12, /redis-server is not installed/);
    });

    it("ends with 0 on SIGTERM, its Redis with it, and finds everything again", async () => {
      const ports = ["--grpc-port", "0", "--http-port", "0", "--json"];
      let id = "";
      for (const signal of ["SIGKILL", "SIGTERM", "SIGINT"] as const) {
        const coordinator = startNode([COORDINATOR_MAIN, ...start(...ports)]);
        const env = { SIMCLR_COORDINATOR: await addressOf(coordinator) };
        if (id === "") id = (await run(["submit", "demo"], env)).stdout.trim();
        const [listed] = JSON.parse((await run(["list", "--json"], env)).stdout);
        assert.equal(listed.id, id);
        const [, redisPort] = /"redis":"127\.0\.0\.1:(\d+)/.exec(coordinator.stdout()) ?? [];
        const { code } = await coordinator.end(signal);
        if (signal === "SIGKILL") continue;
        assert.equal(code, 0);
        await assert.rejects(fetch(`http://127.0.0.1:${redisPort}`), /fetch failed/);
      }
    });
  });

  describe("with a coordinator", () => {
    let redis: Awaited<ReturnType<typeof startRedis>>;
    let coordinator: TestProcess;
    let env: { SIMCLR_COORDINATOR: string };
    const cli = (...args: string[]): Promise<Exit> => run(args, env);
    const startOn = (port: string): TestProcess => {
      const ports = ["--grpc-port", port, "--http-port", "0"];
      return startNode([COORDINATOR_MAIN, "start", ...ports], { env: { REDIS_URL: redis.url } });
    };

    before(async () => {
      redis = await startRedis();
      coordinator = startOn("0");
      env = { SIMCLR_COORDINATOR: await addressOf(coordinator) };
    });
    after(async () => {
      await coordinator.end();
      await redis.close();
    });

    const submit = async (...args: string[]): Promise<string> => {
      const one = ["--set", "pretrain.workers=1", "--set", "linear.workers=1"];
      const { stdout, stderr } = await cli("submit", "demo", ...one, ...args);
      assert.match(stdout, /^demo-[0-9a-f]{6}\n$/, stderr);
      return stdout.trim();
    };
    const join = () => joinFleet(env.SIMCLR_COORDINATOR, "w0");

    it("shows what waits, and why", async () => {
      const id = await submit("--name", "mine", "--priority", "-3");
      const { stdout } = await cli("list");
      assert.match(stdout, /^ID +STATE +STAGE +EPOCH +LOSS +PRIORITY +AGE +NAME +REASON\n/);
      const reason = "waits for 1 worker: none is connected";
      assert.match(
        stdout,
        new RegExp(`^${id} +waiting +pretrain +- +- +-3 +\\d+s +mine +${reason}$`, "m"),
      );
      assert.match((await cli("show", id)).stdout, /^reason +waits for 1 worker/m);

      const shown = JSON.parse((await cli("show", id, "--json")).stdout);
      assert.deepEqual(
        [shown.id, shown.name, shown.state, shown.priority, shown.resolvedRecipe.pretrain.workers],
        [id, "mine", "waiting", -3, 1],
      );
      assert.match((await cli("cancel", id)).stdout, new RegExp(`^${id} cancelled`));
      failsWith(await cli("cancel", id), 6, /cannot be cancelled: its state is cancelled/);
      failsWith(await cli("show", "demo-0"), 5, /there is no experiment demo-0/);
    });

    it("pauses and resumes, and tells what has happened", async () => {
      const id = await submit();
      const following = startNode([COORDINATOR_MAIN, "events", id, "--follow", "--json"], { env });
      await following.output(/submitted/);
      assert.match((await cli("pause", id)).stdout, new RegExp(`^${id} paused \\(pretrain`));
      failsWith(await cli("pause", id), 6, /cannot be paused: its state is paused/);
      failsWith(await cli("retry", id), 6, /resume it/);
      assert.match((await cli("resume", id)).stdout, new RegExp(`^${id} waiting`));
      await cli("cancel", id);
      const told = ["submitted by an operator", "paused by an operator", "resumed by an operator"];
      const expected = [...told, "cancelled by an operator"];
      const events = JSON.parse((await cli("events", id, "--json")).stdout);
      assert.deepEqual(
        events.map(({ message }: { message: string }) => message),
        expected,
      );
      const { code, stdout } = await following.exited();
      assert.equal(code, 0);
      const lines = stdout.trim().split("\n");
      assert.deepEqual(
        lines.map((line) => JSON.parse(line).message),
        expected,
      );
      const table = (await cli("events", id)).stdout;
      assert.match(table, /^TIME +EVENT +STAGE +GENERATION +STEP +RANK +WHAT\n/);
      assert.match(table, /state +pretrain +0 +- +- +waiting -> paused: paused by an operator$/m);
      failsWith(await cli("events", "demo-0"), 5, /there is no experiment demo-0/);
      failsWith(await cli("drain", "nobody"), 5, /there is no worker nobody/);
    });

    it("follows an experiment to its success", async () => {
      const worker = await join();
      assert.match(
        (await cli("workers")).stdout,
        /^w0 +w0-name +idle +fake +none +- +- +- +- +\d+s ago$/m,
      );
      const id = await submit();
      const watch = startNode([COORDINATOR_MAIN, "watch", id], { env });
      const json = startNode([COORDINATOR_MAIN, "watch", id, "--json"], { env });
      await worker.accept();
      await watch.output(/forming \(pretrain/);
      worker.progress(5, { loss: 4.125 });
      await watch.output(/pretrain epoch 0\.50\/10 {2}step 5\/100 {2}loss 4\.125 {2}ETA 10s/);
      const [busy] = JSON.parse((await cli("workers", "--json")).stdout);
      assert.deepEqual([busy.state, busy.experiment, busy.rank], ["busy", id, 0]);

      worker.finish(0, '{"loss_last":1.5}');
      await worker.accept();
      worker.finish(0, '{"top1":61.25,"stage":"linear"}');
      const { code, stdout } = await watch.exited();
      assert.equal(code, 0);
      assert.match(stdout, /^linear: top1 61\.25$/m);
      assert.match(stdout, new RegExp(`^${id} succeeded in \\d+s$`, "m"));

      const updates = (await json.exited()).stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line));
      const last = updates.at(-1);
      assert.deepEqual([last.state, last.results.linear.top1], ["succeeded", 61.25]);
      assert.ok(updates.some(({ progress }) => progress?.loss === 4.125));
      worker.close();
    });

    it("ends with 3 when the experiment that it watches fails, and can retry it", async () => {
      const worker = await join();
      const one = ["--set", "pretrain.workers=1"];
      const watch = startNode([COORDINATOR_MAIN, "submit", "demo", "--watch", ...one], { env });
      await worker.accept();
      worker.fail(0, "DATA_INVALID", "no images in data/demo/train");
      await worker.obey(0);
      const { code, stdout, stderr } = await watch.exited();
      assert.equal(code, 3);
      const [id] = stdout.split("\n");
      const reason = "rank 0: DATA_INVALID: no images in data/demo/train";
      assert.equal(stderr, `error: ${id} failed: ${reason}\n`);

      worker.close();
      const lost = async () => /w0-name +lost/.test((await cli("workers")).stdout);
      await until("the worker to be gone", lost);
      assert.match((await cli("retry", `${id}`)).stdout, new RegExp(`^${id} waiting`));
      failsWith(await cli("retry", `${id}`), 6, /its state is waiting/);
      await cli("cancel", `${id}`);
    });

    it("ends with 4 when it is cancelled, also across a restart of the coordinator", async () => {
      const id = await submit();
      const watch = startNode([COORDINATOR_MAIN, "watch", id], { env });
      await watch.output(/waiting/);
      await coordinator.end();
      coordinator = startOn(env.SIMCLR_COORDINATOR.split(":")[1] ?? "");
      await addressOf(coordinator);
      await cli("cancel", id);
      const { code, stdout, stderr } = await watch.exited();
      assert.equal(code, 4, stderr);
      assert.match(stdout, /cancelled by an operator/);
      assert.equal(stderr, `error: ${id} was cancelled\n`);
    });

    it("refuses a recipe before it asks anybody", async () => {
      const { code, stderr } = await cli("submit", "demo", "--set", "pretrain.optimiser.lr=1");
      assert.equal(code, 2);
      assert.match(stderr, /nearest: pretrain\.optimizer\.lr/);
      failsWith(
        await cli("submit", "demo", "--priority", "5000"),
        2,
        /priority 5000 is not within/,
      );
    });

    it("takes bounds on the workers of every stage", async () => {
      const four = ["submit", "demo", "--set", "pretrain.workers=4"];
      const id = (await cli(...four, "--workers", "1:4")).stdout.trim();
      const shown = JSON.parse((await cli("show", id, "--json")).stdout);
      assert.deepEqual(
        [shown.ranks, shown.resolvedRecipe.elastic.minWorkers, shown.reason],
        [4, 1, "waits for 1 to 4 workers: none is connected"],
      );
      await cli("cancel", id);
      const uneven = /3 workers cannot share the 4 ranks of pretrain evenly: choose 1, 2, 4/;
      failsWith(await cli(...four, "--workers", "3"), 2, uneven);
      failsWith(await cli(...four, "--workers", "4:2"), 2, /MIN must not exceed MAX/);
      failsWith(await cli(...four, "--workers", "0"), 2, /a number of workers, or MIN:MAX/);
    });

    it("logs a change of state once, with its reason", async () => {
      const id = await submit();
      await cli("cancel", id);
      const lines = coordinator
        .stderr()
        .split("\n")
        .filter((line) => line.includes(id));
      const changes = lines
        .map((line) => JSON.parse(line))
        .filter(({ event }) => event === "experiment");
      assert.deepEqual(
        changes.map(({ from, to, because }) => [from, to, because]),
        [["waiting", "cancelled", "cancelled by an operator"]],
      );
    });
  });
});

/** HOST:PORT of a coordinator, once it is ready. */
async function addressOf(coordinator: TestProcess): Promise<string> {
  const [, address = ""] = await coordinator
    .output(/gRPC (\S+),|"grpc":"([^"]+)"/)
    .then((match) => [match[0], match[1] ?? match[2]]);
  return address;
}
