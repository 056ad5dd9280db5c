/** Metrics and health of a coordinator, over real HTTP. */

import assert from "node:assert/strict";
import { startCoordinator } from "../../coordinator/start-coordinator.ts";
import { openLog } from "../../proto/log.ts";
import { PLAINTEXT } from "../../proto/transport.ts";
import { PROTOCOL_VERSION, SOFTWARE_VERSION } from "../../proto/version.ts";
import { freePort, startRedis } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { useRig } from "./coordinator-rig.ts";

describe("metrics", function () {
  this.timeout(20_000);
  const rig = useRig();

  const get = (path: string, init?: RequestInit): Promise<Response> =>
    fetch(`http://127.0.0.1:${rig().coordinator.httpPort}${path}`, init);

  /** Every `simclr_*` sample as `name{labels}` -> value. */
  const samples = async (): Promise<Map<string, number>> => {
    const text = await (await get("/metrics")).text();
    const lines = text.split("\n").filter((line) => line.startsWith("simclr_"));
    return new Map(
      lines.map((line) => {
        const space = line.lastIndexOf(" ");
        return [line.slice(0, space), Number(line.slice(space + 1))];
      }),
    );
  };

  it("tell of experiments, workers, the queue and progress, for as long as they last", async () => {
    const gang = await rig().joinAll("w0", "w1");
    const id = await rig().submit({ pretrain: 2, linear: 1 });
    await rig().submit({ pretrain: 9, linear: 1 });
    await Promise.all(gang.map((worker) => worker.accept()));
    const figures = { epoch: 1.5, loss: 3.25, lr: 0.125, imagesPerSecond: 640, top1: 50.5 };
    const quality = {
      lossBound: 4.5,
      lossAtBound: true,
      knn: [{ neighbours: 20, top1: 45.5, top5: 80 }],
      probeTop1: 47.5,
    };
    const storage = { checkpointFailures: 2, storageProblem: "disk full" };
    const reduced = { allReduceSeconds: 0.5, allReduceHidden: 0.75 };
    const trained = { checkpointStep: 10, trainingSeconds: 1.5 };
    gang[0]?.progress(12, { ...figures, ...reduced, ...quality, ...storage, ...trained });
    await rig().untilState(id, "running");
    const parked = 'simclr_queue_jobs{state="delayed"}';
    await until("both to be handed over", async () => (await samples()).get(parked) === 2);

    const during = await samples();
    const protocol = `protocol="${PROTOCOL_VERSION}"`;
    const build = `version="${SOFTWARE_VERSION}",${protocol},node="${process.version}"`;
    const ofStage = `{experiment="${id}",stage="pretrain"}`;
    const expected = {
      'simclr_experiments{state="running"}': 1,
      'simclr_experiments{state="waiting"}': 1,
      'simclr_experiments{state="failed"}': 0,
      'simclr_workers{state="busy"}': 2,
      'simclr_workers{state="idle"}': 0,
      'simclr_queue_jobs{state="waiting-children"}': 2,
      [`simclr_stage_loss${ofStage}`]: 3.25,
      [`simclr_stage_learning_rate${ofStage}`]: 0.125,
      [`simclr_stage_images_per_second${ofStage}`]: 640,
      [`simclr_stage_epoch${ofStage}`]: 1.5,
      [`simclr_stage_step${ofStage}`]: 12,
      [`simclr_stage_steps${ofStage}`]: 100,
      [`simclr_stage_top1_percent${ofStage}`]: 50.5,
      [`simclr_stage_allreduce_seconds${ofStage}`]: 0.5,
      [`simclr_stage_allreduce_hidden_ratio${ofStage}`]: 0.75,
      [`simclr_stage_loss_bound${ofStage}`]: 4.5,
      [`simclr_stage_loss_at_bound${ofStage}`]: 1,
      [`simclr_stage_knn_top1_percent${ofStage.replace("}", ',k="20"}')}`]: 45.5,
      [`simclr_stage_knn_top5_percent${ofStage.replace("}", ',k="20"}')}`]: 80,
      [`simclr_stage_probe_top1_percent${ofStage}`]: 47.5,
      [`simclr_experiment_restarts_total{experiment="${id}",reason="failure"}`]: 0,
      [`simclr_experiment_lost_steps_total{experiment="${id}"}`]: 0,
      [`simclr_stage_workers${ofStage.replace("}", ',count="have"}')}`]: 2,
      [`simclr_stage_workers${ofStage.replace("}", ',count="want"}')}`]: 2,
      [`simclr_stage_checkpoint_failures${ofStage}`]: 2,
      [`simclr_stage_storage_problem${ofStage}`]: 1,
      [`simclr_experiment_productive_seconds_total{experiment="${id}"}`]: 1.5,
      'simclr_failures_total{code="LOSS_NOT_FINITE"}': 0,
      simclr_redis_up: 1,
      simclr_redis_noeviction: 1,
      simclr_redis_reconnects_total: 0,
      simclr_redis_evicted_keys_total: 0,
      [`simclr_build_info{${build}}`]: 1,
    };
    for (const [name, value] of Object.entries(expected))
      assert.equal(during.get(name), value, name);
    const age = during.get('simclr_worker_heartbeat_age_seconds{worker="w1"}');
    assert.ok(age !== undefined && age >= 0 && age < 5, `heartbeat age ${age}`);
    const figure = (name: string): number => during.get(name) ?? Number.NaN;
    const durable = figure(`simclr_stage_checkpoint_timestamp_seconds${ofStage}`);
    assert.ok(Math.abs(Date.now() / 1_000 - durable) < 60, `durable at ${durable}`);
    assert.ok(figure(`simclr_experiment_wall_seconds_total{experiment="${id}"}`) > 0);
    assert.ok(figure("simclr_queue_oldest_wait_seconds") > 0);
    assert.ok(figure("simclr_redis_memory_used_bytes") > 100_000);
    assert.equal(during.get("simclr_coordinator_disk_free_bytes"), undefined);

    gang[1]?.close();
    await gang[0]?.obey(0);
    await until(
      "w1 to be lost",
      async () => (await samples()).get('simclr_workers{state="lost"}') === 1,
    );
    await rig().operator.cancel(id);
    const after = await samples();
    const gone = [...after.keys()].filter((name) => name.includes(id) || name.includes('"w1"'));
    assert.deepEqual(gone, []);
    assert.equal(after.get('simclr_experiments{state="cancelled"}'), 1);
  });

  it("count the restarts of an experiment that is not done, by their reason", async () => {
    const worker = await rig().join("w0");
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    await worker.accept();
    worker.progress(5);
    worker.leave(0);
    await worker.accept();
    worker.progress(3);
    const restarts = (reason: string) =>
      `simclr_experiment_restarts_total{experiment="${id}",reason="${reason}"}`;
    const lost = `simclr_experiment_lost_steps_total{experiment="${id}"}`;
    await until("the lost steps", async () => (await samples()).get(lost) === 3);
    assert.equal((await samples()).get(restarts("failure")), 1);
    assert.equal((await samples()).get(restarts("preemption")), 0);
  });

  it("count the failures that members report, by error", async () => {
    const worker = await rig().join("w0");
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    await worker.accept();
    const name = 'simclr_failures_total{code="LOSS_NOT_FINITE"}';
    const before = (await samples()).get(name) ?? 0;
    worker.fail(0, "LOSS_NOT_FINITE", "the loss is NaN");
    await until("the failure", async () => (await samples()).get(name) === before + 1);
    worker.leave(0);
    await rig().untilState(id, "failed");
    assert.equal((await samples()).get("simclr_queue_oldest_wait_seconds"), 0);
  });

  it("tell how long each rank takes for a step, and who is slow", async () => {
    const gang = await rig().joinAll("w0", "w1");
    const id = await rig().submit({ pretrain: 2, linear: 1 });
    await Promise.all(gang.map((worker) => worker.accept()));
    gang[0]?.progress(1);
    for (const [rank, worker] of gang.entries()) {
      worker.times = { ownStepSeconds: 0.5 + 2 * rank, dataSeconds: 0.25 };
    }
    const slow = `simclr_stage_straggler_ratio{experiment="${id}",rank="1"}`;
    await until("a straggler", async () => (await samples()).get(slow) === 5);
    const now = await samples();
    const figure = (name: string, rank: number) =>
      now.get(`simclr_rank_${name}_seconds{experiment="${id}",rank="${rank}"}`);
    assert.deepEqual([figure("step", 0), figure("step", 1)], [0.5, 2.5]);
    assert.deepEqual([figure("data", 0), figure("data", 1)], [0.25, 0.25]);
    assert.equal(now.get(`simclr_stage_straggler_ratio{experiment="${id}",rank="0"}`), undefined);
  });

  it("come in the format of Prometheus, with help for each", async () => {
    const response = await get("/metrics");
    assert.match(response.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
    const text = await response.text();
    assert.match(text, /^# HELP simclr_stage_loss \w/m);
    assert.match(text, /^nodejs_eventloop_lag_seconds /m);
  });

  it("stand beside health checks and the page, and nothing else", async () => {
    assert.equal((await get("/healthz")).status, 200);
    assert.equal((await get("/readyz")).status, 200);
    assert.match(await (await get("/")).text(), /<title>simclr-fleet</);
    assert.equal((await get("/metrics/")).status, 404);
    assert.equal((await get("/metrics", { method: "POST" })).status, 405);
  });
});

describe("readiness", function () {
  this.timeout(20_000);

  it("is gone while Redis is away, though the process is healthy", async () => {
    const redis = await startRedis();
    const coordinator = await startCoordinator({
      host: "127.0.0.1",
      grpcPort: 0,
      httpPort: await freePort(),
      stateDir: "unused",
      redisUrl: redis.url,
      redisPrefix: "ready",
      joinToken: "",
      transport: PLAINTEXT,
      log: openLog({ level: "silent", process: "test" }),
    });
    const get = (path: string): Promise<Response> =>
      fetch(`http://127.0.0.1:${coordinator.httpPort}${path}`);

    await redis.crash();
    const response = await get("/readyz");
    assert.equal(response.status, 503);
    assert.equal(await response.text(), "Redis does not answer\n");
    assert.equal((await get("/healthz")).status, 200);
    const away = await (await get("/metrics")).text();
    assert.match(away, /^simclr_redis_up 0$/m);
    assert.doesNotMatch(away, /^simclr_(redis_memory|redis_evicted|queue_jobs)/m);

    await redis.restart();
    await until("readiness", async () => (await get("/readyz")).status === 200);
    const back = async (): Promise<string> => await (await get("/metrics")).text();
    await until("Redis to answer", async () => /^simclr_redis_up 1$/m.test(await back()));
    assert.match(await back(), /^simclr_redis_reconnects_total [1-9]/m);
    await coordinator.close({ dismiss: false });
    await redis.close();
  });
});
