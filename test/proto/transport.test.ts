import assert from "node:assert/strict";
import {
  checkListener,
  checkReach,
  hostOf,
  hostPort,
  isLoopback,
  PLAINTEXT,
  PLAINTEXT_ANYWHERE,
} from "../../proto/transport.ts";
import { testTransport } from "../support/certificates.ts";

const USAGE = (message: RegExp) => ({ code: "USAGE", message });

describe("loopback", () => {
  it("is what cannot be another machine", () => {
    const hosts = ["localhost", "127.0.0.1", "127.8.9.10", "::1"];
    assert.deepEqual(hosts.filter(isLoopback), hosts);
    const others = ["0.0.0.0", "::", "10.0.0.7", "127.0.0.1.example", "localhost.example", "a"];
    assert.deepEqual(others.filter(isLoopback), []);
  });
});

describe("an address", () => {
  it("has its host in brackets where that has colons", () => {
    for (const [address, host] of [
      ["[::1]:80", "::1"],
      ["10.0.0.7:80", "10.0.0.7"],
    ] as const) {
      assert.equal(hostOf(address), host);
      assert.equal(hostPort(host, 80), address);
    }
  });
});

describe("plain text", () => {
  it("leaves the machine only on demand", () => {
    checkReach(PLAINTEXT, "--host", "127.0.0.1");
    assert.throws(
      () => checkReach(PLAINTEXT, "--advertise", "10.0.0.7"),
      USAGE(/^--advertise 10\.0\.0\.7 .*give --tls-cert, --tls-key and --tls-ca, or say --plaint/),
    );
    checkReach(PLAINTEXT_ANYWHERE, "--host", "10.0.0.7");
    checkReach(testTransport("member"), "--host", "10.0.0.7");
  });
});

describe("a listener", () => {
  it("needs a join token beyond loopback, encrypted or not", () => {
    checkListener(PLAINTEXT, { host: "127.0.0.1", joinToken: "" });
    for (const transport of [PLAINTEXT_ANYWHERE, testTransport("member")]) {
      const open = { host: "0.0.0.0", joinToken: "" };
      assert.throws(() => checkListener(transport, open), USAGE(/0\.0\.0\.0 .*JOIN_TOKEN/));
      checkListener(transport, { ...open, joinToken: "secret" });
    }
    const listener = { host: "0.0.0.0", joinToken: "secret" };
    assert.throws(() => checkListener(PLAINTEXT, listener), USAGE(/--host 0\.0\.0\.0/));
  });
});
