import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import {
  findMemoryHost,
  type MemoryHost,
  type OwnedMemory,
} from "../../../worker/collective/shared-memory.ts";

const BYTES = 4096;

describe("shared memory", () => {
  let host: MemoryHost;
  let owned: OwnedMemory;

  before(async () => {
    const found = await findMemoryHost();
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
});
