/** What strangers and slow readers do at a peer server, while a gang sums on it bit for bit. */

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { status } from "@grpc/grpc-js";
import { FleetError } from "../../../proto/errors.ts";
import type { PullRequest } from "../../../proto/gen/peer.ts";
import type { PeerRefusalReason } from "../../../worker/collective/peer-server.ts";
import { Prng } from "../../support/prng.ts";
import { until } from "../../support/until.ts";
import { formGang, type Gang } from "./gang.ts";
import { answerOf, formWithRawPeer } from "./raw-peer.ts";

const WORLD_SIZE = 3;
const FLOATS = 40_000;

describe("a gang whose peer servers are abused", function () {
  this.timeout(60_000);
  let gang: Gang;
  let refused: Map<PeerRefusalReason, number>;
  beforeEach(async () => {
    refused = new Map();
    gang = await formGang(
      WORLD_SIZE,
      {},
      {
        connectionLimits: {
          all: { perPeer: 60, total: 60 },
          strangers: { perPeer: 20, total: 20 },
          strangerMs: 500,
        },
        onRefused: (reason) => refused.set(reason, (refused.get(reason) ?? 0) + 1),
      },
    );
  });
  afterEach(() => gang.close());

  /** Sums and gathers until `flood` is over; fails unless every bit is as it has to be. */
  async function staysExactDuring(flood: Promise<unknown>): Promise<void> {
    let isOver = false;
    const done = flood.finally(() => {
      isOver = true;
    });
    for (let round = 0; round < 3 || !isOver; round++) {
      const own = gang.groups.map((_, rank) => {
        const prng = new Prng(97 * round + rank);
        return Float32Array.from({ length: FLOATS }, () => prng.int(-1_000, 1_000));
      });
      const buffers = own.map((values) => {
        const buffer = new Float32Array(new SharedArrayBuffer(4 * FLOATS));
        buffer.set(values);
        return buffer;
      });
      await Promise.all(gang.groups.map((group, rank) => group.allReduce(buffers[rank]!)));
      const sum = Float32Array.from({ length: FLOATS }, (_, i) =>
        own.reduce((total, values) => total + (values[i] ?? 0), 0),
      );
      for (const buffer of buffers) assert.ok(Buffer.from(buffer).equals(Buffer.from(sum)));
      const marks = await gang.each((group) => group.allGather(Float32Array.of(group.rank, round)));
      for (const mark of marks) assert.deepEqual([...mark], [0, round, 1, round, 2, round]);
    }
    await done;
  }

  it("refuses streams without token, of other generations and of impossible ranks", async () => {
    const requests: readonly (readonly [Partial<PullRequest>, number])[] = [
      [{ joinToken: "" }, status.UNAUTHENTICATED],
      [{ joinToken: "secre" }, status.UNAUTHENTICATED],
      [{ protocolVersion: 99 }, status.FAILED_PRECONDITION],
      [{ generation: 3 }, status.ABORTED],
      [{ experimentId: "another", generation: 4 }, status.UNAVAILABLE],
      [{ experimentId: "e".repeat(10_000) }, status.INVALID_ARGUMENT],
      [{ experimentId: "e".repeat(100_000) }, status.RESOURCE_EXHAUSTED],
      [{ senderRank: 7 }, status.INVALID_ARGUMENT],
      [{ receiverRank: 1 }, status.INVALID_ARGUMENT],
    ];
    const flood = async (): Promise<void> => {
      for (let round = 0; round < 10; round++) {
        const answers = await Promise.all(
          requests.map(([request]) => answerOf(gang.servers[0]!.address, request)),
        );
        assert.deepEqual(
          answers.map(({ code }) => code),
          requests.map(([, code]) => code),
        );
      }
    };
    await staysExactDuring(flood());
    assert.deepEqual([...refused].sort(), [
      ["generation", 10],
      ["join-token", 20],
      ["malformed", 30],
      ["version", 10],
    ]);
  });

  it("closes connections that say nothing, garbage, or are too many", async () => {
    const flood = async (): Promise<void> => {
      const { port } = gang.servers[0]!;
      for (let round = 0; round < 3; round++) {
        const sockets = Array.from({ length: 40 }, () => net.connect(port, "127.0.0.1"));
        const closed = sockets.map((socket) =>
          once(socket.on("error", () => {}).resume(), "close"),
        );
        for (const socket of sockets.slice(0, 5)) socket.write("GET / HTTP/1.1\r\n\r\n");
        await Promise.all(closed);
      }
    };
    await staysExactDuring(flood());
    assert.ok((refused.get("connection") ?? 0) >= 3 * 20, `${refused.get("connection")} refused`);
  });
});

describe("a peer that pulls and does not read", function () {
  this.timeout(30_000);

  it("is lost before what waits for it fills the memory", async () => {
    const raw = await formWithRawPeer({ opTimeoutMs: 20_000 });
    raw.stopReading();
    const gathers = Array.from({ length: 4 }, () =>
      raw.group
        .allGather(new Float32Array(10 * 1024 * 1024))
        .then(() => undefined, FleetError.from),
    );
    const [error] = await Promise.all(gathers);
    assert.equal(error?.code, "GENERATION_ABORTED");
    assert.match(error?.message ?? "", /rank 1 .* does not read what it is sent/);
    await until("the end of the streams", () => raw.areCut());
    await raw.close();
  });
});
