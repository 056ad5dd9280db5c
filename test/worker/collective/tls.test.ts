import assert from "node:assert/strict";
import { status } from "@grpc/grpc-js";
import { FleetError } from "../../../proto/errors.ts";
import { PLAINTEXT, type Transport } from "../../../proto/transport.ts";
import { joinGroup } from "../../../worker/collective/peer-group.ts";
import { sharedFloats } from "../../../worker/collective/process-group.ts";
import { testTransport } from "../../support/certificates.ts";
import { formGang, joinDefaults, startLoopbackServer } from "./gang.ts";
import { answerOf } from "./raw-peer.ts";

/** Beyond what travels in one hop, so that both lanes are used. */
const FLOATS = 100_000;

const member = testTransport("member");
/** Trusts the cluster, so that it is the cluster that refuses. */
const stranger = testTransport("stranger", { ca: "both-cas" });

describe("a gang with mutual TLS", function () {
  this.timeout(30_000);

  it("reduces and gathers", async () => {
    const gang = await formGang(3, { transport: member });
    const sums = await gang.each(async (group) => {
      const buffer = sharedFloats(FLOATS).fill(group.rank + 1);
      await group.allReduce(buffer);
      return [buffer[0], buffer[FLOATS - 1], ...(await group.allGather(Float32Array.of(1)))];
    });
    assert.deepEqual(sums, Array(3).fill([6, 6, 1, 1, 1]));
    await gang.close();
  });

  it("goes by another name than the address on demand", async () => {
    const transport = testTransport("named", { serverName: "fleet.internal" });
    const gang = await formGang(2, { transport });
    await gang.each((group) => group.barrier());
    await gang.close();
  });

  it("ends at once, and says why, with a peer whose certificate has another name", async () => {
    const transport = testTransport("named");
    await assert.rejects(formingAgainst(transport, transport), (error) =>
      isRefusal(error, /rank 1 \(worker w1 at 127\.0\.0\.1:\d+\) .*altnames/),
    );
  });

  it("does not form with a peer of another CA", () =>
    assert.rejects(formingAgainst(member, stranger), (error) =>
      isRefusal(error, /rank 1 .* has a certificate that is not accepted here/),
    ));

  it("does not form with a peer in plain text", () =>
    assert.rejects(formingAgainst(member, PLAINTEXT), (error) =>
      isRefusal(error, /rank 1 .* answers in plain text, without TLS/),
    ));
});

describe("a peer server with TLS", function () {
  this.timeout(10_000);

  it("serves nothing to a caller of another CA, nor to one in plain text", async () => {
    const served: number[] = [];
    const server = await startLoopbackServer({ transport: member });
    server.host({
      experimentId: "e1",
      generation: 4,
      rank: 0,
      admit: (_, receiverRank) => {
        served.push(receiverRank);
        return new FleetError("USAGE", "seen");
      },
      shutDown: async () => {},
    });
    for (const transport of [stranger, PLAINTEXT, testTransport("expired")]) {
      const { code, details } = await answerOf(server.address, {}, transport);
      assert.equal(code, status.UNAVAILABLE, details);
    }
    assert.deepEqual(served, []);
    const { details } = await answerOf(server.address, {}, member);
    assert.deepEqual([served, details], [[1], "seen"]);
    await server.close();
  });

  it("still wants the join token of a caller with a good certificate", async () => {
    const server = await startLoopbackServer({ transport: member });
    const { code, details } = await answerOf(server.address, { joinToken: "guess" }, member);
    assert.deepEqual(
      [code, details],
      [status.UNAUTHENTICATED, "the join token is not this cluster's"],
    );
    await server.close();
  });
});

function isRefusal(error: unknown, message: RegExp): boolean {
  assert.ok(error instanceof FleetError);
  assert.equal(error.code, "TLS_REFUSED", error.message);
  assert.match(error.message, message);
  return true;
}

/** What becomes of rank 0 when the server that it finds at rank 1's address has this transport. */
async function formingAgainst(own: Transport, theirs: Transport): Promise<void> {
  const [first, second] = await Promise.all([
    startLoopbackServer({ transport: own }),
    startLoopbackServer({ transport: theirs }),
  ]);
  const addresses = [first.address, second.address];
  const peers = addresses.map((address, rank) => ({ workerId: `w${rank}`, address }));
  try {
    const group = await joinGroup({ ...joinDefaults(first, 0), peers, transport: own });
    await group.close();
  } finally {
    await Promise.all([first.close(), second.close()]);
  }
}
