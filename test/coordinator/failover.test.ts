/** Coordinators as processes of their own: killed, stopped, and followed by another. */

import assert from "node:assert/strict";
import { OperatorClient } from "../../coordinator/cli/operator-client.ts";
import type { Experiment } from "../../proto/gen/coordinator.ts";
import { parseRecipe } from "../../proto/recipe.ts";
import { applyOverrides } from "../../proto/recipe-overrides.ts";
import { findRecipe } from "../../proto/recipes/registry.ts";
import { PLAINTEXT } from "../../proto/transport.ts";
import {
  COORDINATOR_MAIN,
  startNode,
  startRedis,
  type TestProcess,
  type TestRedis,
} from "../support/processes.ts";
import { until } from "../support/until.ts";
import { type FakeWorker, joinFleet } from "./fake-worker.ts";

interface Started {
  readonly process: TestProcess;
  readonly address: string;
  readonly standsByFor?: string;
}

describe("coordinator process", function () {
  this.timeout(60_000);
  let redis: TestRedis;
  let prefixes = 0;
  const closing: (() => unknown)[] = [];
  before(async () => {
    redis = await startRedis();
  });
  after(() => redis.close());
  afterEach(async () => {
    for (const close of closing.splice(0).toReversed()) await close();
  });

  const start = async (prefix: string): Promise<Started> => {
    const ports = ["--grpc-port", "0", "--http-port", "0"];
    const options = ["--redis-prefix", prefix, "--leader-ttl", "1", "--json"];
    const env = { REDIS_URL: redis.url };
    const process = startNode([COORDINATOR_MAIN, "start", ...ports, ...options], { env });
    closing.push(() => process.end("SIGKILL"));
    const [line] = await process.output(/^\{.*\}$/m);
    const { grpc, ...rest } = JSON.parse(line) as { grpc: string; standsByFor?: string };
    return { process, address: grpc, ...rest };
  };

  /** A leader with two workers that train, a standby, and commands that know of both. */
  const startTwo = async () => {
    const prefix = `failover${prefixes++}`;
    const leader = await start(prefix);
    const standby = await start(prefix);
    assert.equal(standby.standsByFor, leader.address);
    // The standby is asked first, and says that it does not lead.
    const operator = new OperatorClient(`${standby.address},${leader.address}`, PLAINTEXT);
    closing.push(() => operator.close());
    const gang = await Promise.all(["w0", "w1"].map((id) => join(leader, id)));
    const settings = ["pretrain.workers=2", "linear.workers=1"];
    const recipe = parseRecipe(applyOverrides(findRecipe("demo"), settings));
    const recipeJson = JSON.stringify(recipe);
    const id = await operator.submit({ recipeJson, priority: 0, name: "" });
    await Promise.all(gang.map((worker) => worker.accept()));
    gang[0]?.progress(1);
    await untilStep(operator, id, 1);
    return { leader, standby, operator, gang, id };
  };

  const join = async (to: Started, id: string, worker?: FakeWorker): Promise<FakeWorker> => {
    const joined = await joinFleet(to.address, id, { running: worker?.running, epochSeen: 1 });
    closing.push(() => joined.close());
    return joined;
  };
  const untilStep = (operator: OperatorClient, id: string, step: number): Promise<Experiment> =>
    until(`step ${step}`, async () => {
      const experiment = await operator.get(id);
      return experiment.progress?.step === step ? experiment : undefined;
    });

  it("that is killed has a successor, which takes the gang over in its generation", async () => {
    const { leader, standby, operator, gang, id } = await startTwo();
    const before = await operator.get(id);
    await leader.process.end("SIGKILL");
    await standby.process.logged(/coordinator took over/);
    const back = await Promise.all(gang.map((worker) => join(standby, worker.id, worker)));
    back[0]?.progress(5);
    const after = await untilStep(operator, id, 5);
    assert.deepEqual([after.generation, after.restarts], [before.generation, 0]);
    assert.ok(!back.some((worker) => worker.hasReceived("abort")));
  });

  it("that was stopped meanwhile ends with 18, and changes nothing", async () => {
    const { leader, standby, operator, gang, id } = await startTwo();
    const { generation } = await operator.get(id);
    leader.process.child.kill("SIGSTOP");
    await standby.process.logged(/coordinator took over/);
    const back = await Promise.all(gang.map((worker) => join(standby, worker.id, worker)));
    back[0]?.progress(5);
    await untilStep(operator, id, 5);

    // It finds this in its socket when it goes on.
    gang[0]?.progress(3);
    gang[1]?.leave(1, "said to the one that was replaced");
    leader.process.child.kill("SIGCONT");
    const { code, stderr } = await leader.process.exited();
    assert.equal(code, 18, stderr);
    // It sees the other's epoch, or first how long it has not heard of Redis.
    assert.match(
      stderr,
      /^error: this coordinator was replaced by a (coordinator of a later epoch|standby)/m,
    );
    back[0]?.progress(6);
    const after = await untilStep(operator, id, 6);
    assert.deepEqual([after.generation, after.restarts], [generation, 0]);
    await standby.process.end("SIGTERM");
    const third = await start(`failover${prefixes - 1}`);
    assert.equal(third.standsByFor, undefined);
    const client = new OperatorClient(third.address, PLAINTEXT);
    closing.push(() => client.close());
    const stored = await client.get(id);
    assert.deepEqual([stored.progress?.step, stored.state], [6, "EXPERIMENT_STATE_RUNNING"]);
  });
});
