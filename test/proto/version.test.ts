import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { SOFTWARE_VERSION } from "../../proto/version.ts";

describe("version", () => {
  it("is the package's", () => {
    assert.equal(SOFTWARE_VERSION, JSON.parse(readFileSync("package.json", "utf8")).version);
  });
});
