/** Facts that stand in two places of this package, held equal. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { ERROR_SPECS } from "../proto/errors.ts";
import { RECIPES } from "../proto/recipes/registry.ts";
import { SOFTWARE_VERSION } from "../proto/version.ts";
import { ROOT } from "./support/sources.ts";

const read = (...parts: string[]): string => readFileSync(path.join(ROOT, ...parts), "utf8");

describe("the generated protobuf types", function () {
  this.timeout(60_000);

  it("are what buf makes of the .proto files", () => {
    const fresh = mkdtempSync(path.join(tmpdir(), "simclr-gen-"));
    try {
      const buf = path.join(ROOT, "node_modules", ".bin", "buf");
      execFileSync(buf, ["generate", "--output", fresh], { cwd: ROOT, stdio: "pipe" });
      const files = readdirSync(path.join(fresh, "proto", "gen")).sort();
      assert.deepEqual(files, ["coordinator.ts", "peer.ts"]);
      assert.deepEqual(readdirSync(path.join(ROOT, "proto", "gen")).sort(), files);
      for (const file of files) {
        const isEqual =
          read("proto", "gen", file) ===
          readFileSync(path.join(fresh, "proto", "gen", file), "utf8");
        assert.ok(isEqual, `proto/gen/${file} is stale: run npm run proto`);
      }
    } finally {
      rmSync(fresh, { recursive: true, force: true });
    }
  });
});

describe("the version", () => {
  it("is the same in the code and in package.json", () => {
    assert.equal(
      SOFTWARE_VERSION,
      (JSON.parse(read("package.json")) as { version: string }).version,
    );
  });
});

describe("the README", () => {
  it("has the exit codes and meanings of the error table", () => {
    const rows = [...read("README.md").matchAll(/^\| (\d+) \| `([A-Z_]+)` \| (.+) \|$/gm)].map(
      ([, exit, code, meaning]) => `${exit} ${code} ${meaning}`,
    );
    const expected = Object.entries(ERROR_SPECS).map(
      ([code, { exit, meaning }]) => `${exit} ${code} ${meaning}`,
    );
    assert.deepEqual(rows, expected);
  });

  it("names every built-in recipe", () => {
    const text = read("README.md");
    assert.deepEqual(
      RECIPES.map(({ name }) => name).filter((name) => !text.includes(`\`${name}\``)),
      [],
    );
  });
});
