import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { assertOwned, claimStore, unfinishedName } from "../../../worker/checkpoint/store-fence.ts";

describe("store fence", () => {
  let store: string;
  beforeEach(() => {
    store = mkdtempSync(path.join(os.tmpdir(), "store-fence-"));
  });
  afterEach(() => rmSync(store, { recursive: true, force: true }));
  const fencedOff = { code: "GENERATION_ABORTED", message: /^fenced off/ };

  it("gives a store to the highest generation that has claimed it", () => {
    claimStore(store, 2);
    claimStore(store, 10);
    claimStore(store, 10);
    assertOwned(store, 10);
    assert.throws(() => assertOwned(store, 9), fencedOff);
    assert.throws(() => claimStore(store, 2), fencedOff);
    assert.deepEqual(readdirSync(store), [".generation-10"]);
  });

  it("lets any generation have a store that nobody has claimed, or that is not there yet", () => {
    assertOwned(store, 1);
    assertOwned(path.join(store, "absent"), 1);
    claimStore(path.join(store, "absent", "too"), 1);
    assert.deepEqual(readdirSync(path.join(store, "absent", "too")), [".generation-1"]);
  });

  it("is not moved by a lower claim that a stopped rank makes late", () => {
    claimStore(store, 7);
    writeFileSync(path.join(store, ".generation-6"), "");
    assertOwned(store, 7);
    assert.throws(() => assertOwned(store, 6), fencedOff);
  });

  it("removes what writers of lower generations have left unfinished, and nothing else", () => {
    const step = "step-000000020";
    const left = [
      `.writing-${step}-4711`,
      unfinishedName(step, 6),
      `${unfinishedName(step, 6)}-old`,
    ];
    const kept = ["step-000000010", unfinishedName(step, 7)];
    for (const name of [...left, ...kept]) mkdirSync(path.join(store, name));
    claimStore(store, 7);
    assert.deepEqual(readdirSync(store).sort(), [".generation-7", ...kept].sort());
  });
});
