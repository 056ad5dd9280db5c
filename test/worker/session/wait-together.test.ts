import assert from "node:assert/strict";
import { waitTogether } from "../../../worker/session/wait-together.ts";
import { formGang, type Gang } from "../collective/gang.ts";

describe("waiting together", function () {
  this.timeout(20_000);
  let gang: Gang;
  afterEach(() => gang.close());

  it("gives every rank its own result, and none before all have theirs", async () => {
    // Less than the late rank takes: a collective that waited for it would be given up.
    gang = await formGang(2, { opTimeoutMs: 1500 });
    const [first, second] = gang.groups;
    let isSecondDone = false;
    const late = new Promise<string>((resolve) => {
      setTimeout(() => {
        isSecondDone = true;
        resolve("second");
      }, 2500);
    });
    const results = await Promise.all([
      waitTogether(first!, Promise.resolve("first")).then((result) => [result, isSecondDone]),
      waitTogether(second!, late),
    ]);
    assert.deepEqual(results, [["first", true], "second"]);
  });

  it("ends at once where the work fails", async () => {
    gang = await formGang(2);
    const failed = waitTogether(gang.groups[0]!, Promise.reject(new Error("no such folder")));
    await assert.rejects(failed, /no such folder/);
  });
});
