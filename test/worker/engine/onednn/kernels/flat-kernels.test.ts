import assert from "node:assert/strict";
import {
  assertSameBits,
  describeOnProcessor,
  f32,
  Native,
  onTeams,
  randoms,
  stored,
} from "./native-data.ts";

/** Whole and broken vectors and pieces. */
const COUNTS = [0, 1, 7, 8, 9, 31, 33, 100, 16383, 16384, 16385, 40_007];

describeOnProcessor("flat kernels", () => {
  for (const count of COUNTS) {
    for (const type of ["f32", "bf16"] as const)
      it(`add ${count} ${type} numbers, also in place`, () => {
        const [a, b] = [new Native(type, randoms(1, count)), new Native(type, randoms(2, count))];
        const [left, right] = [a.read(), b.read()];
        const expected = stored(
          type,
          left.map((value, i) => value + right[i]!),
        );
        const sum = onTeams((kernels) => {
          const out = new Native(type, count);
          kernels.add(type, count, a.address, b.address, out.address);
          return out.read();
        });
        assertSameBits(sum, expected, "a + b");
        const inPlace = onTeams((kernels) => {
          const out = a.copy();
          kernels.add(type, count, out.address, b.address, out.address);
          return out.read();
        });
        assertSameBits(inPlace, expected, "a += b");
      });

    for (const [from, to] of [
      ["f32", "bf16"],
      ["bf16", "f32"],
    ] as const)
      it(`convert ${count} numbers from ${from} to ${to}`, () => {
        const source = new Native(from, randoms(4, count));
        const converted = onTeams((kernels) => {
          const out = new Native(to, count);
          kernels.convert({ from, to }, count, source.address, out.address);
          return out.read();
        });
        assertSameBits(converted, stored(to, source.read()), "the same numbers");
      });

    it(`sum the squares of ${count} numbers`, () => {
      const values = f32(randoms(3, count));
      const sum = onTeams((kernels) =>
        Float64Array.of(kernels.sumOfSquares(count, values.address)),
      )[0]!;
      const expected = values.read().reduce((total, value) => total + value * value, 0);
      assert.ok(Math.abs(sum - expected) <= 1e-13 * expected, `${sum} is not ${expected}`);
    });

    for (const nesterov of [false, true])
      it(`step ${count} weights by ${nesterov ? "Nesterov's " : ""}momentum`, () =>
        checkMomentum(count, nesterov));
  }

  it("round to nearest bf16, ties to even", () => {
    const ulp = 2 ** -7;
    const a = new Native("bf16", [1, 1 + ulp, 1, 1 + ulp, -1, -1 - ulp, 1.9921875, 1]);
    const b = new Native(
      "bf16",
      [0.5, 0.5, 0.51, 0.49, -0.5, -0.5, 0.5, -0.25].map((u) => u * ulp),
    );
    const out = onTeams((kernels) => {
      const sum = new Native("bf16", 8);
      kernels.add("bf16", 8, a.address, b.address, sum.address);
      return sum.read();
    });
    const expected = [1, 1 + 2 * ulp, 1 + ulp, 1 + ulp, -1, -1 - 2 * ulp, 2, 1];
    assert.deepEqual([...out], expected);
  });

  it("sum more squares than they had room for at first", () => {
    const count = 100 * 16384;
    const values = f32(new Float32Array(count).fill(0.5));
    const sum = onTeams((kernels) => Float64Array.of(kernels.sumOfSquares(count, values.address)));
    assert.equal(sum[0], count / 4);
  });
});

function checkMomentum(count: number, nesterov: boolean): void {
  const [w, v, g] = [1, 2, 3].map((seed) => randoms(seed, count)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const gradient = f32(g);
  const [step, gradientScale, decay, momentum] = [0.1, 0.125, 1e-4, 0.9];
  const run = (read: (weight: Native, velocity: Native) => Native) =>
    onTeams((kernels) => {
      const [weight, velocity] = [f32(w), f32(v)];
      kernels.momentumStep(count, weight.address, velocity.address, gradient.address, {
        step,
        gradientScale,
        decay,
        momentum,
        nesterov,
      });
      return read(weight, velocity).read();
    });

  const round = Math.fround;
  const [s, d, m] = [round(step), round(decay), round(momentum)];
  const steps = g.map((value, i) => round(round(round(value * gradientScale) + d * w[i]!) * s));
  const velocities = v.map((value, i) => m * value + steps[i]!);
  const weights = w.map((value, i) => {
    const velocity = velocities[i]!;
    return value - (nesterov ? round(m * velocity + steps[i]!) : velocity);
  });
  assertSameBits(
    run((_, velocity) => velocity),
    velocities,
    "velocity",
  );
  assertSameBits(
    run((weight) => weight),
    weights,
    "weight",
  );
}
