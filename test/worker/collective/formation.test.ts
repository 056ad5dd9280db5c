import assert from "node:assert/strict";
import { status } from "@grpc/grpc-js";
import { type ErrorCode, FleetError } from "../../../proto/errors.ts";
import { Lane } from "../../../proto/gen/peer.ts";
import { joinGroup } from "../../../worker/collective/peer-group.ts";
import { type PeerServer, startPeerServer } from "../../../worker/collective/peer-server.ts";
import { formGang, joinDefaults, startLoopbackServer } from "./gang.ts";
import { answerOf } from "./raw-peer.ts";

function assertFleetError(code: ErrorCode, pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof FleetError);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  };
}

describe("a peer server", function () {
  this.timeout(10_000);

  it("says which port is taken", async () => {
    const server = await startLoopbackServer();
    await assert.rejects(
      startPeerServer({ host: "127.0.0.1", port: server.port, joinToken: "" }),
      assertFleetError("PORT_IN_USE", new RegExp(`127.0.0.1:${server.port}`)),
    );
    await server.close();
  });

  it("says when it cannot have the address", async () => {
    await assert.rejects(
      startPeerServer({ host: "192.0.2.1", port: 0, joinToken: "" }),
      assertFleetError("USAGE", /192\.0\.2\.1/),
    );
  });
});

describe("the formation of a generation", function () {
  this.timeout(30_000);
  let servers: PeerServer[];
  beforeEach(async () => {
    servers = await Promise.all([startLoopbackServer(), startLoopbackServer()]);
  });
  afterEach(() => Promise.all(servers.map((server) => server.close())));

  const peersOf = (all: readonly PeerServer[]) =>
    all.map(({ address }, rank) => ({ workerId: `w${rank}`, address }));

  it("waits for a member that joins later", async () => {
    const peers = peersOf(servers);
    const first = joinGroup({ ...joinDefaults(servers[0]!, 0), peers });
    // Rank 1's server answers that it has not joined: rank 0 has asked at least once by then.
    await answerOf(servers[1]!.address);
    const second = joinGroup({ ...joinDefaults(servers[1]!, 1), peers });
    const groups = await Promise.all([first, second]);
    await Promise.all(groups.map((group) => group.barrier()));
    await Promise.all(groups.map((group) => group.close()));
  });

  it("names the member that does not join in time", async () => {
    const peers = [...peersOf(servers), { workerId: "w2", address: "127.0.0.1:1" }];
    const joins = servers.map((server, rank) =>
      joinGroup({ ...joinDefaults(server, rank), peers, formationTimeoutMs: 2_000 }),
    );
    for (const join of joins) {
      await assert.rejects(join, (error) => {
        assertFleetError("GENERATION_ABORTED", /did not form within 2000 ms/)(error);
        assert.match((error as FleetError).message, /rank 2 \(worker w2 at 127\.0\.0\.1:1\)/);
        assert.equal((error as FleetError).detail["rank"], 2);
        assert.equal((error as FleetError).detail["worker"], "w2");
        return true;
      });
    }
  });

  it("is refused for a wrong token", async () => {
    const peers = peersOf(servers);
    const [honest, intruder] = [
      joinGroup({ ...joinDefaults(servers[0]!, 0), peers, formationTimeoutMs: 3000 }),
      joinGroup({ ...joinDefaults(servers[1]!, 1), peers, joinToken: "guess" }),
    ];
    await assert.rejects(
      intruder,
      assertFleetError(
        "JOIN_REFUSED",
        /rank 0 .* refused rank 1: the join token is not this cluster's/,
      ),
    );
    await assert.rejects(
      honest,
      assertFleetError("GENERATION_ABORTED", /token is not this cluster's/),
    );
  });

  it("fails when the members disagree about the gang", async () => {
    const peers = peersOf(servers);
    const joins = [
      joinGroup({ ...joinDefaults(servers[0]!, 0), peers, wire: "f32" }),
      joinGroup({ ...joinDefaults(servers[1]!, 1), peers, wire: "bf16" }),
    ];
    const isNamed = assertFleetError("GENERATION_ABORTED", /its wire is (bf16|f32), expected/);
    await Promise.all(joins.map((join) => assert.rejects(join, isNamed)));
  });

  it("ends at once for a member of a generation that the others have left", async () => {
    const peers = peersOf(servers);
    const lonely = { ...joinDefaults(servers[0]!, 0), peers, formationTimeoutMs: 100 };
    await assert.rejects(joinGroup(lonely), assertFleetError("GENERATION_ABORTED", /rank 1/));
    await assert.rejects(
      joinGroup({ ...joinDefaults(servers[1]!, 1), peers }),
      assertFleetError("GENERATION_ABORTED", /rank 0 .* is over here/),
    );
  });

  it("ends when the caller gives up", async () => {
    const controller = new AbortController();
    const join = joinGroup({
      ...joinDefaults(servers[0]!, 0),
      peers: peersOf(servers),
      signal: controller.signal,
    });
    controller.abort(new FleetError("EXPERIMENT_CANCELLED", "cancelled by its owner"));
    await assert.rejects(join, assertFleetError("GENERATION_ABORTED", /cancelled by its owner/));
  });

  it("takes two generations side by side on one server", async () => {
    const peers = peersOf(servers);
    const join = (rank: number, experimentId: string) =>
      joinGroup({ ...joinDefaults(servers[rank]!, rank), peers, experimentId });
    const groups = await Promise.all([join(0, "a"), join(0, "b"), join(1, "b"), join(1, "a")]);
    const alls = await Promise.all(
      groups.map((group, i) => group.allGather(Float32Array.of([1, 2, 2, 1][i]!))),
    );
    assert.deepEqual(
      alls.map((all) => [...all]),
      [
        [1, 1],
        [2, 2],
        [2, 2],
        [1, 1],
      ],
    );
    await Promise.all(groups.map((group) => group.close()));
  });
});

describe("a pull", function () {
  this.timeout(10_000);

  it("is refused where it does not fit the generation", async () => {
    const gang = await formGang(3);
    const server = gang.servers[0]!;
    const refusals = [
      [{ generation: 5 }, status.UNAVAILABLE, /not joined generation 5/],
      [{ generation: 3 }, status.ABORTED, /generation 3 .* is over here/],
      [{ protocolVersion: 99 }, status.FAILED_PRECONDITION, /protocol version 99/],
      [{ joinToken: "guess" }, status.UNAUTHENTICATED, /token/],
      [{ senderRank: 1 }, status.INVALID_ARGUMENT, /has rank 0/],
      [{ lane: Lane.LANE_UNSPECIFIED }, status.INVALID_ARGUMENT, /lane/],
      [{ receiverRank: 9 }, status.INVALID_ARGUMENT, /rank 9 may not pull the small lane/],
      [{ receiverRank: 0 }, status.INVALID_ARGUMENT, /rank 0 may not pull/],
      [{ receiverRank: 2, lane: Lane.LANE_BULK }, status.INVALID_ARGUMENT, /rank 2 .* bulk/],
      [{ receiverRank: 1 }, status.INVALID_ARGUMENT, /twice/],
    ] as const;
    for (const [request, code, details] of refusals) {
      const answer = await answerOf(server.address, request);
      assert.equal(answer.code, code, answer.details);
      assert.match(answer.details, details);
    }
    await gang.each((group) => group.barrier());
    await gang.close();
  });
});
