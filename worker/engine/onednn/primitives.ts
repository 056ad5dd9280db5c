/**
 * The primitives that the engine computes with, each compiled when a shape is first seen.
 *
 * Layouts that a primitive chose point into its description, so primitives live as long as the
 * engine.
 */

import type { Geometry, Precision } from "../engine.ts";
import { convolutionShape, POOL, pooledShape, sizeOf } from "../shapes.ts";
import type { Layout, Layouts } from "./layout.ts";
import { addressOf, type Library, type PostOperations, wide } from "./library.ts";
import { operand, Primitive, type PrimitiveOptions, type Workshop } from "./primitive.ts";
import { type Address, ALGORITHM, ARGUMENT, DATA_TYPE, PROP, QUERY } from "./symbols.ts";

/** A convolution's shapes. */
export interface ConvolutionKey {
  readonly x: readonly number[];
  readonly weight: readonly number[];
  readonly geometry: Geometry;
}

export interface ConvolutionForward {
  readonly weights: Layout;
  /** Operands: x, weights, y. */
  readonly primitive: Primitive;
}

/** With bias and, where asked for, a residual and a rectifier. */
export interface ConvolutionInference {
  readonly weights: Layout;
  /** Operands: x, weights, bias, y, residual if there is one. */
  readonly primitive: Primitive;
}

export interface ConvolutionBackwardInput {
  readonly weights: Layout;
  /** Operands: dy, weights, dx. */
  readonly primitive: Primitive;
}

export interface ConvolutionBackwardWeight {
  /** In float32. */
  readonly dWeights: Layout;
  /** Operands: x, dy, dWeights. */
  readonly primitive: Primitive;
}

export interface MaxPool {
  readonly workspace: Layout;
  /** Operands: x, y, workspace. */
  readonly forward: Primitive;
  /** Operands: dy, workspace, dx. */
  readonly backward: Primitive;
}

export class Primitives {
  readonly #workshop: Workshop;
  readonly #library: Library;
  readonly #layouts: Layouts;
  readonly #precision: Precision;
  readonly #made: Primitive[] = [];
  readonly #cached = new Map<string, unknown>();
  readonly #reorders = new Map<Layout, Map<Layout, Primitive>>();

  /** @param precision what primitives compute in; feature maps may be kept in another one */
  constructor(workshop: Workshop, layouts: Layouts, precision: Precision) {
    this.#workshop = workshop;
    this.#library = workshop.library;
    this.#layouts = layouts;
    this.#precision = precision;
  }

  /** Operands: from, to. Both hold a tensor of the same shape. */
  reorder(from: Layout, to: Layout, shape: readonly number[]): Primitive {
    const known = this.#reorders.get(from)?.get(to);
    if (known) return known;
    const { symbols, engine } = this.#library;
    const name = `reorder [${shape}]`;
    const isNative = this.#precision !== "f32";
    const [source, target] = [from, to].map((layout) =>
      isNative ? layout : this.#layouts.inFloat32(layout, shape),
    ) as [Layout, Layout];
    const description = this.#library.make(name, (result) =>
      symbols.reorder(result, source.descriptor, engine, target.descriptor, engine, 0),
    );
    const primitive = this.#make({
      operation: { name, flops: 0 },
      description,
      operands: [operand(ARGUMENT.source, from, source), operand(ARGUMENT.destination, to, target)],
    });
    const targets = this.#reorders.get(from) ?? new Map<Layout, Primitive>();
    this.#reorders.set(from, targets.set(to, primitive));
    return primitive;
  }

  convolution(key: ConvolutionKey): ConvolutionForward {
    return this.#once(`forward ${text(key)}`, () => {
      const description = this.#describeForward(key, PROP.training);
      const { descriptorOf } = this.#library.symbols;
      const weights = descriptorOf(description, QUERY.weights, 0);
      const { x, y, stored } = this.#mapsOf(key);
      return {
        weights: this.#layouts.chosen(key.weight, weights, this.#precision),
        primitive: this.#make({
          operation: operationOf("convolution", key),
          description,
          operands: [
            operand(ARGUMENT.source, stored.x, x),
            { index: ARGUMENT.weights, descriptor: weights },
            operand(ARGUMENT.destination, stored.y, y),
          ],
        }),
      };
    });
  }

  convolutionInference(
    key: ConvolutionKey,
    after: { readonly relu: boolean; readonly residual: boolean },
  ): ConvolutionInference {
    return this.#once(`inference ${text(key)} ${after.relu} ${after.residual}`, () => {
      const { x, y, bias, stored } = this.#mapsOf(key);
      const add = after.residual ? { add: y.descriptor } : {};
      const description = this.#describeForward(key, PROP.inference, { relu: after.relu, ...add });
      const weights = this.#library.symbols.descriptorOf(description, QUERY.weights, 0);
      const residual = ARGUMENT.postOperation | ARGUMENT.second;
      return {
        weights: this.#layouts.chosen(key.weight, weights, this.#precision),
        primitive: this.#make({
          operation: operationOf("convolution+norm", key),
          description,
          operands: [
            operand(ARGUMENT.source, stored.x, x),
            { index: ARGUMENT.weights, descriptor: weights },
            operand(ARGUMENT.bias, bias),
            operand(ARGUMENT.destination, stored.y, y),
            ...(after.residual ? [operand(residual, stored.y, y)] : []),
          ],
        }),
      };
    });
  }

  convolutionBackwardInput(key: ConvolutionKey): ConvolutionBackwardInput {
    return this.#once(`backward input ${text(key)}`, () => {
      const { symbols } = this.#library;
      const { x, y, places, stored } = this.#mapsOf(key);
      const any = this.#anyWeights(key, this.#precision);
      const operation = operationOf("convolution backward input", key);
      const description = this.#library.describe(
        operation.name,
        (filled) =>
          symbols.convolutionBackwardData(
            filled,
            ALGORITHM.convolution,
            x.descriptor,
            addressOf(any),
            y.descriptor,
            ...places,
          ),
        { hint: this.convolution(key).primitive.description },
      );
      const weights = symbols.descriptorOf(description, QUERY.weights, 0);
      return {
        weights: this.#layouts.chosen(key.weight, weights, this.#precision),
        primitive: this.#make({
          operation,
          description,
          operands: [
            operand(ARGUMENT.dDestination, stored.y, y),
            { index: ARGUMENT.weights, descriptor: weights },
            operand(ARGUMENT.dSource, stored.x, x),
          ],
        }),
      };
    });
  }

  convolutionBackwardWeight(key: ConvolutionKey): ConvolutionBackwardWeight {
    return this.#once(`backward weight ${text(key)}`, () => {
      const { symbols } = this.#library;
      const { x, y, places, stored } = this.#mapsOf(key);
      const any = this.#anyWeights(key, "f32");
      const operation = operationOf("convolution backward weight", key);
      const description = this.#library.describe(
        operation.name,
        (filled) =>
          symbols.convolutionBackwardWeights(
            filled,
            ALGORITHM.convolution,
            x.descriptor,
            addressOf(any),
            0,
            y.descriptor,
            ...places,
          ),
        { hint: this.convolution(key).primitive.description },
      );
      const dWeights = symbols.descriptorOf(description, QUERY.dWeights, 0);
      return {
        dWeights: this.#layouts.chosen(key.weight, dWeights, "f32"),
        primitive: this.#make({
          operation,
          description,
          operands: [
            operand(ARGUMENT.source, stored.x, x),
            operand(ARGUMENT.dDestination, stored.y, y),
            { index: ARGUMENT.dWeights, descriptor: dWeights },
          ],
        }),
      };
    });
  }

  maxPool(shape: readonly number[]): MaxPool {
    return this.#once(`max pool ${shape}`, () => {
      const { symbols } = this.#library;
      const { x, y, stored } = this.#maps(shape, pooledShape(shape));
      const square = (length: number): BigInt64Array => wide([length, length]);
      const places = [
        square(POOL.stride),
        square(POOL.window),
        square(POOL.padding),
        square(POOL.padding),
      ] as const;
      const name = `max pool [${shape}]`;
      const forward = this.#library.describe(name, (operation) =>
        symbols.poolingForward(
          operation,
          PROP.training,
          ALGORITHM.maxPool,
          x.descriptor,
          y.descriptor,
          ...places,
        ),
      );
      const workspace = symbols.descriptorOf(forward, QUERY.workspace, 0);
      const backward = this.#library.describe(
        name,
        (operation) =>
          symbols.poolingBackward(
            operation,
            ALGORITHM.maxPool,
            x.descriptor,
            y.descriptor,
            ...places,
          ),
        { hint: forward },
      );
      return {
        // Only its size matters to anyone but the primitive.
        workspace: this.#layouts.chosen([...shape, 0], workspace, this.#precision),
        forward: this.#make({
          operation: { name, flops: 0 },
          description: forward,
          operands: [
            operand(ARGUMENT.source, stored.x, x),
            operand(ARGUMENT.destination, stored.y, y),
            { index: ARGUMENT.workspace, descriptor: workspace },
          ],
        }),
        backward: this.#make({
          operation: { name: `max pool backward [${shape}]`, flops: 0 },
          description: backward,
          operands: [
            operand(ARGUMENT.dDestination, stored.y, y),
            { index: ARGUMENT.workspace, descriptor: workspace },
            operand(ARGUMENT.dSource, stored.x, x),
          ],
        }),
      };
    });
  }

  /** Operands: dy [N, C, 1, 1], dx. */
  averagePoolBackward(shape: readonly number[]): Primitive {
    return this.#once(`average pool backward ${shape}`, () => {
      const { symbols } = this.#library;
      const [images, channels, height, width] = shape as [number, number, number, number];
      const { x, y, stored } = this.#maps(shape, [images, channels, 1, 1]);
      const places = [wide([1, 1]), wide([height, width]), wide([0, 0]), wide([0, 0])] as const;
      const name = `average pool backward [${shape}]`;
      const hint = this.#library.describe(name, (operation) =>
        symbols.poolingForward(
          operation,
          PROP.training,
          ALGORITHM.averagePool,
          x.descriptor,
          y.descriptor,
          ...places,
        ),
      );
      const description = this.#library.describe(
        name,
        (operation) =>
          symbols.poolingBackward(
            operation,
            ALGORITHM.averagePool,
            x.descriptor,
            y.descriptor,
            ...places,
          ),
        { hint },
      );
      symbols.primitiveDescriptorDestroy(hint);
      return this.#make({
        operation: { name, flops: 0 },
        description,
        operands: [
          operand(ARGUMENT.dDestination, stored.y, y),
          operand(ARGUMENT.dSource, stored.x, x),
        ],
      });
    });
  }

  close(): void {
    for (const primitive of this.#made) primitive.close();
  }

  #describeForward(key: ConvolutionKey, prop: number, after?: PostOperations): Address {
    const { symbols } = this.#library;
    const { x, y, bias, places } = this.#mapsOf(key);
    const any = this.#anyWeights(key, this.#precision);
    return this.#library.describe(
      operationOf("convolution", key).name,
      (operation) =>
        symbols.convolutionForward(
          operation,
          prop,
          ALGORITHM.convolution,
          x.descriptor,
          addressOf(any),
          prop === PROP.inference ? bias.descriptor : 0,
          y.descriptor,
          ...places,
        ),
      after && { after },
    );
  }

  #mapsOf({ x, weight, geometry }: ConvolutionKey) {
    const square = (length: number): BigInt64Array => wide([length, length]);
    const padding = square(geometry.padding);
    return {
      ...this.#maps(x, convolutionShape(x, weight, geometry)),
      bias: this.#layouts.plain([weight[0]!]),
      places: [square(geometry.stride), padding, padding] as const,
    };
  }

  /** As primitives compute with them, and as they are kept. */
  #maps(xShape: readonly number[], yShape: readonly number[]) {
    return {
      x: this.#layouts.map(xShape, this.#precision),
      y: this.#layouts.map(yShape, this.#precision),
      stored: { x: this.#layouts.map(xShape), y: this.#layouts.map(yShape) },
    };
  }

  /** Leaves the layout to the primitive. */
  #anyWeights({ weight }: ConvolutionKey, type: Precision): Uint8Array {
    return this.#library.taggedDescriptor(weight, DATA_TYPE[type]);
  }

  #make(options: PrimitiveOptions): Primitive {
    const primitive = new Primitive(this.#workshop, options);
    this.#made.push(primitive);
    return primitive;
  }

  #once<T>(key: string, make: () => T): T {
    const known = this.#cached.get(key);
    if (known !== undefined) return known as T;
    const made = make();
    this.#cached.set(key, made);
    return made;
  }
}

function text({ x, weight, geometry }: ConvolutionKey): string {
  return `${x} ${weight} ${geometry.stride} ${geometry.padding}`;
}

function operationOf(kind: string, key: ConvolutionKey): { name: string; flops: number } {
  const { x, weight, geometry } = key;
  const y = convolutionShape(x, weight, geometry);
  const stride = geometry.stride === 1 ? "" : ` / ${geometry.stride}`;
  return {
    name: `${kind} [${x}] * [${weight}]${stride}`,
    flops: 2 * sizeOf(y) * sizeOf(weight.slice(1)),
  };
}
