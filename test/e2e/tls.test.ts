import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { tlsFile, tlsFlags } from "../support/certificates.ts";
import { tinyRecipe, untilExperiment, useCluster } from "../support/cluster.ts";
import { COORDINATOR_MAIN, type Exit, startNode, WORKER_MAIN } from "../support/processes.ts";

const TOKEN = "the-token-of-this-cluster";
const GUESS = "the-token-of-another";
const NAMED = [...tlsFlags("named"), "--tls-server-name", "fleet.internal"];
/** Trusts the cluster, so that it is the cluster that refuses. */
const STRANGER = [...tlsFlags("stranger", "both-cas"), "--tls-server-name", "fleet.internal"];

const exits: Exit[] = [];

/** Runs a worker that cannot join to its end. */
async function runWorker(coordinator: string, flags: readonly string[], joinToken = TOKEN) {
  const own = ["--coordinator", coordinator, "--engine", "tfjs:wasm", "--connect-timeout", "0.5"];
  const env = { SIMCLR_JOIN_TOKEN: joinToken };
  const exit = await startNode([WORKER_MAIN, "start", ...own, ...flags], { env }).exited();
  exits.push(exit);
  return exit;
}

/** Asks the coordinator for its experiments, with a join token or with none. */
async function runList(coordinator: string, flags: readonly string[], joinToken: string) {
  const env = { SIMCLR_JOIN_TOKEN: joinToken };
  const args = [COORDINATOR_MAIN, "list", "--coordinator", coordinator, ...flags];
  const exit = await startNode(args, { env }).exited();
  exits.push(exit);
  return exit;
}

async function runCoordinator(...args: readonly string[]): Promise<Exit> {
  const exit = await startNode([COORDINATOR_MAIN, ...args]).exited();
  exits.push(exit);
  return exit;
}

/** Fails unless the last line says why, and the command has ended with this status. */
function failsWith({ code, stderr }: Exit, status: number, message: RegExp): void {
  assert.equal(code, status, stderr);
  assert.match(stderr.trim().split("\n").at(-1) ?? "", /^error: /);
  assert.match(stderr.trim().split("\n").at(-1) ?? "", message);
}

describe("a cluster with mutual TLS and a join token, beyond loopback", function () {
  this.timeout(120_000);
  const suite = useCluster({
    images: { train: 16, val: 4 },
    workers: 2,
    coordinatorFlags: ["--host", "0.0.0.0"],
    flags: NAMED,
    env: { SIMCLR_JOIN_TOKEN: TOKEN },
  });

  it("takes an experiment through both stages", async () => {
    const base = tinyRecipe(suite.data, {});
    const id = await suite.submit({
      ...base,
      pretrain: { ...base.pretrain, workers: 2, batchPerWorker: 4 },
      linear: { ...base.linear, workers: 2, batchPerWorker: 4 },
    });
    await untilExperiment(suite.cluster, id, ({ state }) => state === "succeeded", 90_000);
    assert.equal((await suite.cluster.cli("watch", id)).code, 0);
  });

  it("keeps a worker out whose certificate is of another CA", async () => {
    const { address } = suite.cluster;
    const refused = await runWorker(address, STRANGER);
    failsWith(refused, 17, new RegExp(`${address} .*did not accept the certificate`));
    failsWith(await runList(address, STRANGER, TOKEN), 17, /accept/);
  });

  it("keeps a worker out that has no certificate", async () => {
    const { address } = suite.cluster;
    failsWith(await runWorker(address, ["--plaintext"]), 11, /if it has TLS, give --tls-cert/);
    const list = await runCoordinator("list", "--coordinator", address, "--plaintext");
    failsWith(list, 11, /if it has TLS, give --tls-cert/);
  });

  it("keeps a worker out that does not know the join token", async () => {
    const { address } = suite.cluster;
    failsWith(await runWorker(address, NAMED, ""), 15, /join token is missing/);
    failsWith(await runWorker(address, NAMED, GUESS), 15, /join token is not this cluster's/);
  });

  it("takes no command without the join token, whatever the certificate", async () => {
    const { address } = suite.cluster;
    failsWith(await runList(address, NAMED, ""), 15, /join token is missing/);
    failsWith(await runList(address, NAMED, GUESS), 15, /join token is not this cluster's/);
    assert.equal((await runList(address, NAMED, TOKEN)).code, 0);
    const option = await runList(address, [...NAMED, "--join-token", TOKEN], "");
    assert.equal(option.code, 0);
  });

  it("serves its metrics in plain text", async () => {
    const url = suite.cluster.http.replace("0.0.0.0", "127.0.0.1");
    assert.equal((await fetch(`${url}/metrics`)).status, 200);
  });

  it("has not let out a secret in all of this", () => {
    const { coordinator, workers } = suite.cluster;
    const running = [coordinator, ...workers].flatMap(({ stdout, stderr }) => [stdout(), stderr()]);
    const ended = exits.flatMap(({ stdout, stderr }) => [stdout, stderr]);
    const said = [...running, ...ended].join("\n");
    const keys = ["named.key", "stranger.key"].map((name) => readFileSync(tlsFile(name), "utf8"));
    const lines = keys.flatMap((key) => key.trim().split("\n").slice(1, -1));
    for (const secret of [TOKEN, GUESS, ...lines]) assert.ok(!said.includes(secret));
    assert.doesNotMatch(said, /Deprecation|PRIVATE KEY/);
  });
});

describe("plain text beyond loopback", function () {
  this.timeout(60_000);

  describe("is refused to", () => {
    it("a coordinator, unless it is asked for and there is a join token", async () => {
      const start = ["start", "--host", "0.0.0.0"];
      failsWith(await runCoordinator(...start), 2, /--host 0\.0\.0\.0 .*or say --plaintext/);
      failsWith(await runCoordinator(...start, "--plaintext"), 2, /needs a secret .*JOIN_TOKEN/);
      failsWith(await runCoordinator(...start, ...tlsFlags("member")), 2, /JOIN_TOKEN/);
    });

    it("whoever asks a coordinator", async () => {
      const list = ["list", "--coordinator", "192.0.2.1:50051"];
      failsWith(await runCoordinator(...list), 2, /--coordinator 192\.0\.2\.1 .*--plaintext/);
    });

    it("a worker that listens there, tells others to call it there, or calls there", async () => {
      const here = "127.0.0.1:1";
      failsWith(await runWorker(here, ["--host", "0.0.0.0"]), 2, /--host 0\.0\.0\.0 .*--plaintext/);
      const advertised = await runWorker(here, ["--advertise", "192.0.2.1:7"]);
      failsWith(advertised, 2, /--advertise 192\.0\.2\.1 .*--plaintext/);
      failsWith(await runWorker("192.0.2.1:7", []), 2, /--coordinator 192\.0\.2\.1 .*--plaintext/);
    });
  });

  describe("that was asked for", () => {
    const suite = useCluster({
      images: { train: 1, val: 1 },
      workers: 0,
      coordinatorFlags: ["--host", "0.0.0.0"],
      flags: ["--plaintext"],
      env: { SIMCLR_JOIN_TOKEN: TOKEN },
    });

    it("lets workers join", async () => {
      await suite.cluster.addWorkers(1, "--host", "0.0.0.0");
      assert.equal((await suite.cluster.json<unknown[]>("workers")).length, 1);
    });

    it("is not what a worker with TLS takes", async () => {
      failsWith(await runWorker(suite.cluster.address, NAMED), 17, /in plain text, without TLS/);
    });
  });
});

describe("a file of TLS that is wrong", function () {
  this.timeout(30_000);

  it("ends either command before it does anything", async () => {
    const flags = tlsFlags("expired");
    failsWith(await runWorker("127.0.0.1:1", flags), 16, /--tls-cert .*expired\.pem .*expired on/);
    failsWith(await runCoordinator("start", ...flags), 16, /--tls-cert .*expired\.pem/);
    failsWith(await runCoordinator("list", ...flags), 16, /--tls-cert .*expired\.pem/);
    failsWith(await runCoordinator("list", ...flags.slice(2)), 2, /it needs --tls-cert, too/);
  });
});
