import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import {
  findMemoryHost,
  type MemoryHost,
  type OwnedMemory,
} from "../../../worker/collective/shared-memory.ts";
import { until } from "../../support/until.ts";

const BYTES = 4096;

describe("shared memory", () => {
  let host: MemoryHost;
  let owned: OwnedMemory;

  before(() => {
    const found = findMemoryHost();
    assert.ok(found, "this platform has shared memory");
    host = found;
  });
  function create(): OwnedMemory {
    const memory = host.create(BYTES);
    assert.ok(memory);
    return memory;
  }

  beforeEach(() => {
    owned = create();
  });
  afterEach(() => owned.close());

  it("shows another process what its owner writes", async () => {
    const child = fork(new URL("./memory-reader.js", import.meta.url));
    owned.data.set([3, 1, 4]);
    child.send(owned.ticket);
    const [first] = await once(child, "message");
    assert.deepEqual(first, [BYTES, 3, 1, 4]);
    owned.data.set([1, 5, 9]);
    child.send("again");
    const [second] = await once(child, "message");
    assert.deepEqual(second, [BYTES, 1, 5, 9]);
    assert.deepEqual(await once(child, "exit"), [0, null]);
  });

  it("is not opened where the ticket does not fit", () => {
    const { ticket } = owned;
    const other = create();
    const wrong = [
      { host: "another" },
      { pid: 2 ** 22 + 1 },
      { pid: -1 },
      { fd: 0 },
      { fd: other.ticket.fd },
      { bytes: ticket.bytes - 1 },
      { bytes: 2 ** 40 },
      { bytes: Number.NaN },
      { proof: other.ticket.proof },
    ];
    for (const change of wrong) {
      assert.equal(host.open({ ...ticket, ...change }), undefined, JSON.stringify(change));
    }
    other.close();
  });

  it("is not opened where its owner could shrink it", () => {
    const folder = fs.mkdtempSync("/tmp/simclr-test-");
    const fd = fs.openSync(`${folder}/file`, "w+");
    const proof = Buffer.alloc(64, 1);
    fs.writeSync(fd, Buffer.concat([proof, Buffer.alloc(BYTES)]));
    const ticket = { ...owned.ticket, fd, proof: proof.toString("hex") };
    assert.equal(host.open(ticket), undefined);
    fs.closeSync(fd);
    fs.rmSync(folder, { recursive: true });
  });

  it("leaves neither a descriptor nor a mapping", () => {
    const descriptors = fs.readdirSync("/proc/self/fd").length;
    const memory = create();
    const opened = host.open(memory.ticket);
    assert.ok(opened);
    opened.close();
    memory.close();
    owned.close();
    assert.ok(!fs.readFileSync("/proc/self/maps", "latin1").includes("memfd:simclr-fleet"));
    owned = create();
    assert.equal(fs.readdirSync("/proc/self/fd").length, descriptors);
  });

  it("holds floats that this process and others see alike", () => {
    const made = host.createFloats(1000);
    assert.ok(made);
    assert.ok(made.floats.every((value) => value === 0));
    const opened = host.open(made.ticket);
    assert.ok(opened);
    const { buffer, byteOffset } = opened.data;
    made.floats[999] = 1.5;
    assert.equal(new Float32Array(buffer, byteOffset, 1000)[999], 1.5);
    const part = host.plainViewOf(made.floats.subarray(990));
    part[0] = 2.5;
    assert.equal(made.floats[990], 2.5);
    opened.close();
    made.close();
    assert.equal(host.open(made.ticket), undefined);
    assert.equal(made.floats[999], 1.5);
  });

  it("gives floats back to the system once nobody holds them", async () => {
    setFlagsFromString("--expose-gc");
    const collect: () => void = runInNewContext("gc");
    const before = floatsMapped();
    host.createFloats(1000)?.close();
    assert.equal(floatsMapped(), before + 1);
    await until("the memory to be given back", () => {
      collect();
      return floatsMapped() <= before;
    });
  });
});

/** How many memories of floats this process has. */
function floatsMapped(): number {
  return fs.readFileSync("/proc/self/maps", "latin1").split("memfd:simclr-floats").length - 1;
}
