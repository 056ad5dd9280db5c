import assert from "node:assert/strict";
import { existsSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { makeFolder } from "../../proto/make-folder.ts";
import { tempDir } from "../support/processes.ts";

describe("makeFolder", () => {
  let temporary: Awaited<ReturnType<typeof tempDir>>;
  beforeEach(async () => {
    temporary = await tempDir();
  });
  afterEach(() => temporary.remove());
  const at = (...names: string[]): string => path.join(temporary.dir, ...names);

  it("makes what is missing, and leaves what is there", () => {
    makeFolder(at("a", "b", "c"));
    writeFileSync(at("a", "b", "c", "kept"), "");
    makeFolder(at("a", "b", "c"));
    makeFolder(at("a", "b", "d"));
    assert.ok(existsSync(at("a", "b", "c", "kept")));
    assert.ok(statSync(at("a", "b", "d")).isDirectory());
  });

  it("says what stands in its way", () => {
    writeFileSync(at("file"), "");
    symlinkSync("nowhere", at("dangling"));
    assert.throws(() => makeFolder(at("file")), { code: "EEXIST" });
    assert.throws(() => makeFolder(at("file", "below")), { code: "ENOTDIR" });
    assert.throws(() => makeFolder(at("dangling")), { code: "EEXIST" });
  });

  it("ends where a file system takes no folders", () => {
    assert.throws(() => makeFolder("/proc/nothing/here"), { code: "ENOENT" });
  });
});
