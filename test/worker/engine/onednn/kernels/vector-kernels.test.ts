import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { VectorKernels } from "../../../../../worker/engine/onednn/kernels/vector-kernels.ts";
import { describeOnProcessor, f32, onTeams, randoms } from "./native-data.ts";

const MODULE = new URL(
  "../../../../../worker/engine/onednn/kernels/vector-kernels.js",
  import.meta.url,
);

describeOnProcessor("vector kernels", () => {
  it("refuse a team without threads, and null addresses", () => {
    assert.throws(() => VectorKernels.open(0), /a team has a thread/);
    const kernels = VectorKernels.open(1);
    assert.throws(() => kernels.add("f32", 1, 0, 0, 0), /an address is not null/);
    kernels.close();
  });

  it("work again after others were closed", () => {
    const values = f32(randoms(1, 100));
    const square = () =>
      onTeams((kernels) => Float64Array.of(kernels.sumOfSquares(100, values.address)));
    const before = square();
    const others = VectorKernels.open(2);
    others.sumOfSquares(100, values.address);
    others.close();
    assert.deepEqual(square(), before);
  });

  it("let the process end while the pool's threads wait", async () => {
    const script = `
      import { VectorKernels } from ${JSON.stringify(MODULE.href)};
      const kernels = VectorKernels.open(2);
      const memory = new Float64Array(50_000);
      const { default: koffi } = await import("koffi");
      console.log(kernels.sumOfSquares(100_000, Number(koffi.address(memory))));
      kernels.close();`;
    const node = promisify(execFile)(process.execPath, ["--input-type=module", "--eval", script], {
      timeout: 10_000,
    });
    assert.equal((await node).stdout, "0\n");
  }).timeout(10_000);
});
