import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { joinGroup } from "../../../worker/collective/peer-group.ts";
import type { PeerServer } from "../../../worker/collective/peer-server.ts";
import { sharedFloats } from "../../../worker/collective/process-group.ts";
import { formGang, joinDefaults, startLoopbackServer } from "./gang.ts";

/** So many that a ring of two needs more chunks than there are slots. */
const FLOATS = 10_000_000;

function isMemoryMapped(): boolean {
  return readFileSync("/proc/self/maps", "latin1").includes("memfd:simclr-fleet");
}

describe("bulk data between workers of one host", function () {
  this.timeout(60_000);

  it("goes through shared memory or the streams, to the same bits, and leaves none", async () => {
    const sums: Float32Array[] = [];
    for (const sharedMemory of [true, false]) {
      const gang = await formGang(2, { sharedMemory });
      assert.equal(isMemoryMapped(), sharedMemory);
      const buffers = await gang.each(async (group) => {
        const buffer = sharedFloats(FLOATS);
        for (const i of buffer.keys()) buffer[i] = (i + group.rank) / 3;
        await group.allReduce(buffer);
        return buffer;
      });
      assert.ok(Buffer.from(buffers[0]!.buffer).equals(Buffer.from(buffers[1]!.buffer)));
      sums.push(buffers[0]!);
      await gang.close();
      assert.ok(!isMemoryMapped());
    }
    assert.ok(Buffer.from(sums[0]!.buffer).equals(Buffer.from(sums[1]!.buffer)));
    const element = (i: number) => Math.fround(Math.fround(i / 3) + Math.fround((i + 1) / 3));
    for (const i of [0, 1, FLOATS - 1]) assert.equal(sums[0]![i], element(i));
  });

  it("goes through the streams where the system gives no memory", async () => {
    const servers = await Promise.all([startLoopbackServer(), startLoopbackServer()]);
    const poor = servers.map((server) => ({
      ...server,
      memoryHost: server.memoryHost && { ...server.memoryHost, create: () => undefined },
    }));
    const peers = servers.map(({ address }, rank) => ({ workerId: `w${rank}`, address }));
    const groups = await Promise.all(
      poor.map((server, rank) => joinGroup({ ...joinDefaults(server, rank), peers })),
    );
    const buffers = groups.map(({ rank }) => sharedFloats(100_000).fill(rank + 1));
    await Promise.all(groups.map((group, rank) => group.allReduce(buffers[rank]!)));
    for (const buffer of buffers) assert.ok(buffer.every((value) => value === 3));
    assert.ok(!isMemoryMapped());
    await Promise.all(groups.map((group) => group.close()));
    await Promise.all(servers.map((server) => server.close()));
  });

  it("is not added in when it has changed in the memory", async () => {
    const servers = [await startLoopbackServer(), withOtherMemory(await startLoopbackServer())];
    const peers = servers.map(({ address }, rank) => ({ workerId: `w${rank}`, address }));
    const groups = await Promise.all(
      servers.map((server, rank) => joinGroup({ ...joinDefaults(server, rank), peers })),
    );
    const sums = groups.map((group) => group.allReduce(sharedFloats(FLOATS).fill(1)));
    const told = /rank 0 .* sent what cannot be used: CORRUPT frame: block 0 of its payload/;
    await Promise.all(sums.map((sum) => assert.rejects(sum, told)));
    await Promise.all(groups.map((group) => group.close()));
    await Promise.all(servers.map((server) => server.close()));
    assert.ok(!isMemoryMapped());
  });
});

/** What it opens of others is not what they write. */
function withOtherMemory(server: PeerServer): PeerServer {
  const { memoryHost } = server;
  assert.ok(memoryHost);
  return {
    ...server,
    memoryHost: {
      create: (bytes) => memoryHost.create(bytes),
      createFloats: (length) => memoryHost.createFloats(length),
      plainViewOf: (floats) => memoryHost.plainViewOf(floats),
      open: (ticket) => {
        const memory = memoryHost.open(ticket);
        return memory && { ...memory, data: new Uint8Array(memory.data.length) };
      },
    },
  };
}
