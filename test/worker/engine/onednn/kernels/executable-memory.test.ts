import assert from "node:assert/strict";
import fs from "node:fs";
import { ExecutableMemory } from "../../../../../worker/engine/onednn/kernels/executable-memory.ts";

const RET = Uint8Array.of(0xc3);

describe("executable memory", () => {
  it("can be read and run, and no longer be written", () => {
    const memory = ExecutableMemory.of(RET);
    assert.equal(accessAt(memory.address), "r-xp");
    memory.close();
  });

  it("goes back to the system, once", () => {
    const memory = ExecutableMemory.of(RET);
    memory.close();
    memory.close();
    assert.notEqual(accessAt(memory.address), "r-xp");
  });

  it("says so where the system gives none", () => {
    assert.throws(() => ExecutableMemory.of(new Uint8Array(0)), /no memory for 0 bytes .*errno 22/);
  });
});

/** As the kernel shows it, e.g. "r-xp"; undefined where nothing is mapped. */
function accessAt(address: number): string | undefined {
  for (const line of fs.readFileSync("/proc/self/maps", "utf8").split("\n")) {
    const [, begin, end, access] = /^(\w+)-(\w+) (\S+)/.exec(line) ?? [];
    if (begin && end && Number(`0x${begin}`) <= address && address < Number(`0x${end}`)) {
      return access;
    }
  }
  return undefined;
}
