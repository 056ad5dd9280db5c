/**
 * What a gang does about each fault. Every member is a process and checks each result itself; every
 * fault happens at a point that is known, not after a time, and is seen to have happened.
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { HEADER_BYTES } from "../../../worker/collective/frame.ts";
import { CHUNK_BYTES } from "../../../worker/collective/frame-order.ts";
import { startTcpProxy, type TcpFault, type TcpProxy } from "../../support/tcp-proxy.ts";
import type { Operation } from "./checked-operations.ts";
import type { FrameFaultInjection } from "./frame-relay.ts";
import type { Halt, MemberTask } from "./member-process.ts";
import { type Member, type ProcessGang, startProcessGang } from "./process-gang.ts";

/** What the others may take to notice that a member is no more, or does nothing any more. */
const KILLED_MS_MAX = 1000;
const STOPPED_MS_MAX = 5000;

const VICTIM = 2;
const LARGE: Operation = { kind: "all-reduce", floats: 2_000_000 };
const OPERATIONS: readonly Operation[] = [
  LARGE,
  { kind: "all-gather", floats: 1000 },
  { kind: "barrier", floats: 0 },
  { kind: "all-reduce", floats: 50 },
  { kind: "reduce-scatter", floats: 100_000 },
  { kind: "broadcast", floats: 100_000 },
];
/** What the ranks of one host do with nothing but notices. */
const SUMS = OPERATIONS.filter(({ kind }) => kind.includes("reduce"));
/** The first operation of the second round: a large sum. */
const LATER = OPERATIONS.length;

describe("a gang of processes", function () {
  this.timeout(60_000);
  let gang: ProcessGang;
  let proxy: TcpProxy | undefined;

  async function start(worldSize: number, injection?: FrameFaultInjection): Promise<void> {
    gang = await startProcessGang(worldSize, injection && { ...injection, rank: VICTIM });
  }

  /** Puts a proxy between the victim and everybody else. */
  async function interpose(fault: TcpFault): Promise<TcpProxy> {
    proxy = await startTcpProxy(gang.addresses[VICTIM]!, fault);
    gang.reroute(VICTIM, proxy.address);
    return proxy;
  }

  afterEach(async () => {
    await gang.end();
    await proxy?.close();
    proxy = undefined;
  });

  const victim = () => gang.members[VICTIM]!;
  const survivors = () => gang.members.filter(({ rank }) => rank !== VICTIM);

  describe("without a fault", () => {
    for (const memory of ["allocated", "plain"] as const) {
      it(`carries everything out, aborts nothing, leaves nothing behind, ${memory}`, async () => {
        await start(4);
        gang.start({ operations: OPERATIONS, count: 3 * OPERATIONS.length, memory });
        await assertCompletes(gang.members, 3 * OPERATIONS.length);
      });
    }
  });

  describe("whose member is killed", () => {
    const moments: [string, Pick<Halt, "index" | "when">][] = [
      ["before its first operation", { index: 0, when: "before" }],
      ["in the middle of a sum", { index: LATER, when: "during" }],
      ["right after a sum", { index: LATER, when: "after" }],
    ];
    for (const [name, moment] of moments) {
      it(`ends within a second, ${name}`, async () => {
        await start(4);
        const halt = { ...moment, how: "freeze" } as const;
        gang.start({ operations: OPERATIONS }, { rank: VICTIM, task: { halt } });
        await victim().told("halted");
        const killedAt = victim().signal("SIGKILL");
        await assertBlame(survivors(), gang, /was lost/, killedAt + KILLED_MS_MAX);
        assert.equal((await victim().exited).signal, "SIGKILL");
        const doneByVictim = moment.index + (moment.when === "after" ? 1 : 0);
        assert.equal(victim().all("done").length, doneByVictim);
        await assertNothingLeft(survivors());
      });
    }
  });

  describe("whose engine threads exchange, and whose member is", () => {
    const faults = [
      ["killed", "SIGKILL", KILLED_MS_MAX, /was lost/],
      ["stopped", "SIGSTOP", STOPPED_MS_MAX, /silent for \d+ ms/],
    ] as const;
    for (const [name, signal, limitMs, pattern] of faults) {
      it(`${name}, ends in time`, async () => {
        await start(3);
        gang.start({ operations: [], engine: "exchange" });
        await Promise.all(gang.members.map((member) => member.told("under way")));
        const at = victim().signal(signal);
        await assertBlame(survivors(), gang, pattern, at + limitMs);
        await assertNothingLeft(survivors());
      });
    }
  });

  describe("whose member is stopped", () => {
    it("ends within five seconds", async () => {
      await start(4);
      const halt = { index: LATER, when: "during", how: "freeze" } as const;
      gang.start({ operations: OPERATIONS }, { rank: VICTIM, task: { halt } });
      await victim().told("halted");
      const stoppedAt = victim().signal("SIGSTOP");
      await assertBlame(survivors(), gang, /silent for \d+ ms/, stoppedAt + STOPPED_MS_MAX);
      await assertNothingLeft(survivors());
      assert.match(await readFile(`/proc/${victim().pid}/stat`, "utf8"), /^\d+ \(.*\) T /);
    });
  });

  describe("whose member is slow", () => {
    it("goes on when the link is slow", async () => {
      await start(3);
      await interpose({ type: "throttle", bytesPerSecond: 8e6 });
      gang.start({ operations: OPERATIONS, count: LATER, join: { sharedMemory: false } });
      await assertCompletes(gang.members, LATER);
      assert.ok(proxy!.fired > 0);
    });

    it("goes on when the member answers nothing for a while, in the middle of a sum", async () => {
      await start(3);
      const halt = { index: 0, when: "during", how: "freeze", forMs: 2500 } as const;
      gang.start({ operations: OPERATIONS, count: LATER }, { rank: VICTIM, task: { halt } });
      await assertCompletes(gang.members, LATER);
      assert.equal(victim().all("halted").length, 1);
    });

    it("ends, and names it, when it does not come to an operation in time", async () => {
      for (const when of ["before", "after"] as const) {
        await start(3);
        const halt = { index: 0, when, how: "idle" } as const;
        const join = { opTimeoutMs: 1000 };
        gang.start({ operations: OPERATIONS, join }, { rank: VICTIM, task: { halt } });
        await victim().told("halted");
        await assertBlame(gang.members, gang, /took longer than 1000 ms: no contribution/);
        await assertNothingLeft(gang.members);
      }
    });
  });

  describe("whose member's link is too slow", () => {
    it("ends, and names it, though all wait for one another", async () => {
      await start(4);
      // Not one chunk passes in time, while the other ranks have theirs.
      await interpose({ type: "throttle", bytesPerSecond: CHUNK_BYTES / 5 });
      gang.start({ operations: [LARGE], join: { opTimeoutMs: 2000, sharedMemory: false } });
      await assertBlame(gang.members, gang, /took longer than 2000 ms: no further data/);
      assert.ok(proxy!.fired > 0);
      await assertNothingLeft(gang.members);
    });
  });

  describe("whose stream is harmed", () => {
    const middle = Math.floor(1.5 * (HEADER_BYTES + CHUNK_BYTES));
    const large: [string, Operation][] = [
      ["sum", LARGE],
      ["gather", { kind: "all-gather", floats: (4 * CHUNK_BYTES) / 4 }],
    ];
    for (const [name, operation] of large) {
      const faults: [string, TcpFault, RegExp][] = [
        ["a cut in the middle of a chunk", { type: "cut", afterBytes: middle }, /was lost/],
        ["a flipped bit", { type: "flip", afterBytes: middle }, /CORRUPT frame/],
      ];
      for (const [what, fault, pattern] of faults) {
        it(`ends after ${what} of a ${name}`, async () => {
          await start(3);
          const { address } = await interpose(fault);
          gang.start({ operations: [operation], join: { sharedMemory: false } });
          await assertBlame(gang.members, gang, pattern);
          assert.equal(proxy!.fired, 1);
          assert.equal(gang.addresses[VICTIM], address);
          await assertNothingLeft(gang.members);
        });
      }
    }
  });

  describe("whose member sends what it should not", () => {
    const faults: [string, FrameFaultInjection["fault"], RegExp][] = [
      ["a frame twice", "duplicate", /REPEATED frame/],
      ["a frame of an older generation", "older", /FOREIGN frame: of generation 3, this is 4/],
    ];
    const kinds: [FrameFaultInjection["kind"], number, Partial<MemberTask>][] = [
      ["reduce", 5, { join: { sharedMemory: false } }],
      ["gather", 6, { join: { sharedMemory: false } }],
      ["start-reduce", 1, { join: { sharedMemory: false } }],
      ["share", 2, { operations: SUMS }],
      ["summed", 2, { operations: SUMS }],
      ["copied", 2, { operations: SUMS }],
    ];
    for (const [what, fault, pattern] of faults) {
      for (const [kind, skip, task] of kinds) {
        it(`ends after ${what}, in a ${kind}`, async () => {
          await start(3, { fault, kind, skip });
          gang.start({ operations: OPERATIONS, ...task });
          await assertBlame(gang.members, gang, pattern);
          assert.equal(victim().all("injected").length, 1);
          await assertNothingLeft(gang.members);
        });
      }
    }
  });
});

/** All operations were right, nothing was aborted, and nothing is left. */
async function assertCompletes(members: readonly Member[], count: number): Promise<void> {
  for (const member of members) {
    const { aborts } = await member.told("closed");
    assert.deepEqual(member.all("wrong"), []);
    assert.deepEqual(member.all("failed"), []);
    assert.equal(aborts, 0);
    assert.equal(member.all("done").length, count);
  }
  await assertNothingLeft(members);
}

/** All fail for the same reason, which names the victim; by `deadline`, and with no wrong sum. */
async function assertBlame(
  members: readonly Member[],
  gang: ProcessGang,
  pattern: RegExp,
  deadline = Number.POSITIVE_INFINITY,
): Promise<void> {
  const failures = await Promise.all(members.map((member) => member.told("failed")));
  const address = gang.addresses[VICTIM]!;
  for (const [i, { at, error }] of failures.entries()) {
    const { rank } = members[i]!;
    assert.equal(error.code, "GENERATION_ABORTED", error.message);
    assert.match(error.message, pattern);
    const name = `rank ${VICTIM} (worker w${VICTIM} at ${address})`;
    assert.ok(error.message.includes(name), `${error.message}, should name ${name}`);
    const { rank: blamed, address: place } = error.detail ?? {};
    assert.deepEqual({ blamed, place }, { blamed: VICTIM, place: address });
    assert.ok(at < deadline, `rank ${rank} noticed ${at - deadline} ms too late`);
  }
  for (const member of members) assert.deepEqual(member.all("wrong"), []);
}

/** The processes end by themselves, and nobody listens on their ports any more. */
async function assertNothingLeft(members: readonly Member[]): Promise<void> {
  for (const member of members) {
    assert.deepEqual(await member.exited, { code: 0, signal: null });
    const { address } = await member.told("listening");
    const server = createServer();
    server.listen(Number(address.split(":")[1]), "127.0.0.1");
    await once(server, "listening");
    server.close();
    await once(server, "close");
  }
}
