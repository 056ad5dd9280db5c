/**
 * Results that are stored element by element equal those of one f32 rounding per instruction, bit
 * by bit; sums may differ from float64 by the rounding of their terms.
 */

import assert from "node:assert/strict";
import type {
  ImageShape,
  ReluMask,
} from "../../../../../worker/engine/onednn/kernels/vector-kernels.ts";
import {
  assertSameBits,
  describeOnProcessor,
  f32,
  Native,
  onTeams,
  randoms,
  stored,
} from "./native-data.ts";

const TYPES = ["f32", "bf16"] as const;
const WIDTHS = [8, 16] as const;
const PIXELS = [1, 3, 49, 197];
const MASKS = ["none", "output", "input"] as const;
/** Of a sum's error to the sum of its terms' sizes: fifty roundings, all in one direction. */
const SUM_ERROR_MAX = 50 * 2 ** -24;
/** Relative, about two of f32's. */
const ULP = 2 ** -22;

const SHAPES: readonly ImageShape[] = TYPES.flatMap((type) =>
  WIDTHS.flatMap((width) =>
    PIXELS.map((pixels) => ({ images: 2, blocks: 3, pixels, width, type })),
  ),
);

describeOnProcessor("image kernels", () => {
  for (const shape of SHAPES) {
    const { images, blocks, pixels, width, type } = shape;
    describe(`on ${images}x${blocks}x${pixels}x${width} ${type}`, () => {
      it("sum the moments around a pivot", () => checkMoments(shape));

      for (const relu of [false, true])
        for (const hasResidual of [false, true])
          it(`normalise${hasResidual ? ", add" : ""}${relu ? ", rectify" : ""}`, () =>
            checkNormalise(shape, { relu, hasResidual }));

      for (const mask of MASKS) {
        it(`sum the gradient behind mask ${mask}`, () => checkBackwardSums(shape, mask));
        it(`apply the gradient behind mask ${mask}`, () => checkBackwardApply(shape, mask));
        it(`may overwrite their inputs behind mask ${mask}`, () => checkInPlace(shape, mask));
      }

      it("let the same values pass by input as by output", () => checkMasksAgree(shape));
    });
  }

  it("keep a small variance beside a large mean", () => {
    const count = 4 * 3136;
    const shape: ImageShape = { images: 4, blocks: 1, pixels: 3136, width: 8, type: "f32" };
    const x = f32(randoms(1, count * 8, 999, 1001));
    const pivot = Math.fround(999.7);
    const pivots = f32(new Float32Array(8).fill(pivot));
    const out = onTeams((kernels) => {
      const sums = f32(shape.images * 2 * 8);
      kernels.moments(shape, x.address, pivots.address, sums.address);
      return sums.read();
    });
    for (let c = 0; c < 8; c++) {
      const values = x.read().filter((_, i) => i % 8 === c);
      const mean = total(values) / count;
      const variance = total(values.map((value) => (value - mean) ** 2)) / count;
      const first = total(out.filter((_, i) => i % 16 === c)) / count;
      const second = total(out.filter((_, i) => i % 16 === 8 + c)) / count;
      assert.ok(Math.abs(pivot + first - mean) < 1e-6, `mean of channel ${c}`);
      assert.ok(Math.abs(second - first ** 2 - variance) < 1e-5 * variance, `channel ${c}`);
    }
  });

  it("let NaN through the rectifier, and keep infinities", () => {
    for (const type of TYPES) {
      const shape: ImageShape = { images: 1, blocks: 1, pixels: 1, width: 8, type };
      const specials = [Number.NaN, Infinity, -Infinity, -1, -0, 0, 1, 3.38e38];
      const x = new Native(type, specials);
      const [scale, shift] = [f32(Array(8).fill(1.5)), f32(new Float32Array(8))];
      const result = onTeams((kernels) => {
        const y = new Native(type, 8);
        kernels.normalise(shape, x.address, scale.address, shift.address, y.address, {
          relu: true,
        });
        return y.read();
      });
      assert.deepEqual([...result], [Number.NaN, Infinity, 0, 0, 0, 0, 1.5, Infinity]);
    }
  });

  it("sum nothing where there is no pixel, and do nothing where there is no image", () => {
    const shape: ImageShape = { images: 1, blocks: 1, pixels: 0, width: 8, type: "f32" };
    const x = f32(randoms(1, 8));
    const out = onTeams((kernels) => {
      const sums = f32(new Float32Array(16).fill(1));
      kernels.moments(shape, x.address, x.address, sums.address);
      kernels.moments({ ...shape, images: 0, pixels: 1 }, x.address, x.address, sums.address);
      return sums.read();
    });
    assert.deepEqual(out, new Float32Array(16));
  });
});

function checkMoments(shape: ImageShape): void {
  const x = imageOf(shape, 1);
  const pivot = channelsOf(shape, 2);
  const out = onTeams((kernels) => {
    const sums = sumsOf(shape);
    kernels.moments(shape, x.address, pivot.address, sums.address);
    return sums.read();
  });
  const perElement = spread(shape, pivot);
  const centred = x.read().map((value, i) => value - perElement[i]!);
  assertSums(shape, out, [centred, Float64Array.from(centred, (value) => value * value)]);
}

function checkNormalise(
  shape: ImageShape,
  { relu, hasResidual }: { relu: boolean; hasResidual: boolean },
): void {
  const x = imageOf(shape, 1);
  const [scale, shift] = [channelsOf(shape, 2), channelsOf(shape, 3)];
  const residual = hasResidual ? imageOf(shape, 4) : undefined;
  const run = (isInPlace: boolean) =>
    onTeams((kernels) => {
      const own = x.copy();
      const y = isInPlace ? own : new Native(shape.type, x.count);
      kernels.normalise(shape, own.address, scale.address, shift.address, y.address, {
        relu,
        ...(residual && { residual: residual.address }),
      });
      return y.read();
    });
  const added = residual?.read();
  const expected = affine(shape, x, scale, shift).map((value, i) => {
    const y = added ? Math.fround(value + added[i]!) : value;
    return relu ? Math.max(0, y) : y;
  });
  assertSameBits(run(false), stored(shape.type, expected), "y");
  assertSameBits(run(true), stored(shape.type, expected), "y in place of x");
}

function checkBackwardSums(shape: ImageShape, kind: ReluMask["kind"]): void {
  const [dy, x, mean] = [imageOf(shape, 1), imageOf(shape, 2), channelsOf(shape, 3)];
  const { mask, d } = maskOf(shape, kind, { dy, x });
  const out = onTeams((kernels) => {
    const sums = sumsOf(shape);
    kernels.backwardSums(shape, dy.address, x.address, mean.address, mask, sums.address);
    return sums.read();
  });
  const means = spread(shape, mean);
  const products = Float64Array.from(x.read(), (value, i) => d[i]! * (value - means[i]!));
  assertSums(shape, out, [d, products]);
}

function checkBackwardApply(shape: ImageShape, kind: ReluMask["kind"]): void {
  const given = gradientOf(shape, kind);
  for (const hasResidual of [false, true]) {
    const [dx, dResidual] = runApply(shape, given, (dy, x) => ({
      dy,
      x,
      dx: new Native(shape.type, dy.count),
      ...(hasResidual && { dResidual: new Native(shape.type, dy.count) }),
    }));
    assertSameBits(dx!, given.expected, "dx");
    if (hasResidual) assertSameBits(dResidual!, given.d, "dResidual");
    else assert.equal(dResidual, undefined);
  }
}

function checkInPlace(shape: ImageShape, kind: ReluMask["kind"]): void {
  const given = gradientOf(shape, kind);
  const overDy = runApply(shape, given, (dy, x) => ({ dy, x, dx: dy }));
  const overX = runApply(shape, given, (dy, x) => ({ dy, x, dx: x, dResidual: dy }));
  assertSameBits(overDy[0]!, given.expected, "dx over dy");
  assertSameBits(overX[0]!, given.expected, "dx over x");
  assertSameBits(overX[1]!, given.d, "dResidual over dy");
}

/** Values close to zero decide: x is -shift / scale, give or take an ulp. */
function checkMasksAgree(shape: ImageShape): void {
  const { type } = shape;
  const [scale, shift, mean] = [channelsOf(shape, 1), channelsOf(shape, 2), channelsOf(shape, 3)];
  const [scales, shifts] = [spread(shape, scale), spread(shape, shift)];
  const noise = randoms(4, scales.length, -ULP, ULP);
  const x = new Native(
    type,
    scales.map((s, i) => (-shifts[i]! / s) * (1 + noise[i]!)),
  );
  const dy = imageOf(shape, 5);
  const [byInput, byOutput] = (["input", "output"] as const).map((kind) =>
    onTeams((kernels) => {
      const [y, sums] = [new Native(type, x.count), sumsOf(shape)];
      kernels.normalise(shape, x.address, scale.address, shift.address, y.address, {
        relu: true,
      });
      const mask: ReluMask =
        kind === "input"
          ? { kind, scale: scale.address, shift: shift.address }
          : { kind, y: y.address };
      kernels.backwardSums(shape, dy.address, x.address, mean.address, mask, sums.address);
      const d = new Native(type, x.count);
      const [a, b] = [f32(scale.read().fill(1)), f32(scale.read().fill(0))];
      kernels.backwardApply(
        shape,
        dy.address,
        x.address,
        a.address,
        b.address,
        b.address,
        mask,
        d.address,
      );
      return d.read();
    }),
  );
  assertSameBits(byInput!, byOutput!, "d");
  if (x.count > 100) {
    assert.ok(byInput!.includes(0), "some do not pass");
    assert.ok(
      byInput!.some((value) => value !== 0),
      "some pass",
    );
  }
}

interface Gradient {
  readonly dy: Native;
  readonly x: Native;
  readonly parameters: readonly [Native, Native, Native];
  readonly mask: ReluMask;
  /** dy behind the mask. */
  readonly d: Float32Array;
  /** dx. */
  readonly expected: Float32Array;
}

function gradientOf(shape: ImageShape, kind: ReluMask["kind"]): Gradient {
  const [dy, x] = [imageOf(shape, 1), imageOf(shape, 2)];
  const [a, b, c] = [channelsOf(shape, 3), channelsOf(shape, 4), channelsOf(shape, 5)];
  const { mask, d } = maskOf(shape, kind, { dy, x });
  const as = spread(shape, a);
  const rest = affine(shape, x, b, c);
  const expected = rest.map((value, i) => as[i]! * d[i]! + value);
  const parameters = [a, b, c] as const;
  return { dy, x, parameters, mask, d, expected: stored(shape.type, expected) };
}

interface Places {
  readonly dy: Native;
  readonly x: Native;
  readonly dx: Native;
  readonly dResidual?: Native;
}

/** dx and, where a place was given, dResidual. */
function runApply(
  shape: ImageShape,
  { dy, x, parameters, mask }: Gradient,
  place: (dy: Native, x: Native) => Places,
): readonly Float32Array[] {
  const [a, b, c] = parameters;
  const run = (read: (places: Places) => Float32Array) =>
    onTeams((kernels) => {
      const places = place(dy.copy(), x.copy());
      kernels.backwardApply(
        shape,
        places.dy.address,
        places.x.address,
        a.address,
        b.address,
        c.address,
        mask,
        places.dx.address,
        places.dResidual?.address,
      );
      return read(places);
    });
  const hasResidual = place(dy, x).dResidual !== undefined;
  return [
    run(({ dx }) => dx.read()),
    ...(hasResidual ? [run(({ dResidual }) => dResidual!.read())] : []),
  ];
}

/** The mask, and dy behind it. */
function maskOf(
  shape: ImageShape,
  kind: ReluMask["kind"],
  { dy, x }: { dy: Native; x: Native },
): { mask: ReluMask; d: Float32Array } {
  const behind = (passes: Float32Array) => dy.read().map((v, i) => (passes[i]! > 0 ? v : 0));
  if (kind === "none") return { mask: { kind }, d: dy.read() };
  if (kind === "output") {
    const y = imageOf(shape, 6);
    return { mask: { kind, y: y.address }, d: behind(y.read()) };
  }
  const [scale, shift] = [channelsOf(shape, 7), channelsOf(shape, 8)];
  const mask = { kind, scale: scale.address, shift: shift.address };
  return { mask, d: behind(affine(shape, x, scale, shift)) };
}

/** Inputs, which no kernel changes. */
const made = new Map<string, Native>();

function imageOf({ images, blocks, pixels, width, type }: ImageShape, seed: number): Native {
  return kept(type, seed, images * blocks * pixels * width);
}

function channelsOf({ blocks, width }: ImageShape, seed: number): Native {
  return kept("f32", seed, blocks * width);
}

function kept(type: ImageShape["type"], seed: number, count: number): Native {
  const key = `${type} ${seed} ${count}`;
  const native = made.get(key) ?? new Native(type, randoms(seed, count));
  made.set(key, native);
  return native;
}

function sumsOf({ images, blocks, width }: ImageShape): Native {
  return f32(images * blocks * 2 * width);
}

/** A per-channel vector's value for each element of an image. */
function spread({ images, blocks, pixels, width }: ImageShape, channels: Native): Float32Array {
  const values = channels.read();
  return new Float32Array(images * blocks * pixels * width).map((_, i) => {
    const block = Math.floor(i / (pixels * width)) % blocks;
    return values[block * width + (i % width)]!;
  });
}

/** x * scale + shift with one rounding; float64 holds the product exactly. */
function affine(shape: ImageShape, x: Native, scale: Native, shift: Native): Float32Array {
  const [scales, shifts] = [spread(shape, scale), spread(shape, shift)];
  return x.read().map((value, i) => value * scales[i]! + shifts[i]!);
}

function assertSums(
  { images, blocks, pixels, width }: ImageShape,
  out: Float32Array,
  pair: readonly (Float32Array | Float64Array)[],
): void {
  for (let item = 0; item < images * blocks; item++) {
    for (const [p, terms] of pair.entries()) {
      for (let lane = 0; lane < width; lane++) {
        const own = new Float64Array(pixels).map(
          (_, pixel) => terms[(item * pixels + pixel) * width + lane]!,
        );
        const error = Math.abs(out[(item * 2 + p) * width + lane]! - total(own));
        const bound = SUM_ERROR_MAX * total(own.map(Math.abs));
        assert.ok(error <= bound, `sum ${p} of item ${item}, lane ${lane}: off by ${error}`);
      }
    }
  }
}

function total(values: Float32Array | Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}
