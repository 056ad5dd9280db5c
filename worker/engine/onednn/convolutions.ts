/** Convolutions, each compiled when its shapes are first seen. */

import type { Geometry, Precision } from "../engine.ts";
import { convolutionShape, sizeOf } from "../shapes.ts";
import type { Layout } from "./layout.ts";
import { addressOf, type PostOperations, wide } from "./library.ts";
import { operand, type Primitive, type PrimitiveOptions } from "./primitive.ts";
import { type Address, ALGORITHM, ARGUMENT, DATA_TYPE, PROP, QUERY } from "./symbols.ts";
import type { MapLayout, Workshop } from "./workshop.ts";

/** A convolution's shapes. */
export interface ConvolutionKey {
  readonly x: readonly number[];
  readonly weight: readonly number[];
  readonly geometry: Geometry;
}

interface Maps {
  readonly x: MapLayout;
  readonly y: MapLayout;
}

/** Where operands have to lie: both maps, and the weights or their gradient. */
export interface Convolution {
  readonly x: Layout;
  readonly y: Layout;
  readonly weights: Layout;
  readonly primitive: Primitive;
}

/** What a convolution in eval mode does to its result. */
export interface Finish {
  readonly relu: boolean;
  readonly residual: boolean;
}

/** oneDNN's names of plain loops, which take a hundred times as long as its other code. */
const SLOW = /^ref/;

export class Convolutions {
  readonly #workshop: Workshop;

  constructor(workshop: Workshop) {
    this.#workshop = workshop;
  }

  /** Operands: x, weights, y. */
  forward(key: ConvolutionKey): Convolution {
    return this.#workshop.once(`forward ${text(key)}`, () => {
      const { description, maps } = this.#describe(key, (maps) =>
        this.#describeForward(key, maps, PROP.training),
      );
      const { x, y } = maps;
      return this.#make("convolution", key, description, maps, (weights) => [
        operand(ARGUMENT.source, x.stored, x.computed),
        { index: ARGUMENT.weights, descriptor: weights },
        operand(ARGUMENT.destination, y.stored, y.computed),
      ]);
    });
  }

  /** Operands: x, weights, bias, y, and the residual if there is one. */
  inference(key: ConvolutionKey, finish: Finish): Convolution {
    const { relu, residual } = finish;
    return this.#workshop.once(`inference ${text(key)} ${relu} ${residual}`, () => {
      const { description, maps } = this.#describe(key, (maps) => {
        const add = residual ? { add: maps.y.computed.descriptor } : {};
        return this.#describeForward(key, maps, PROP.inference, { relu, ...add });
      });
      const { x, y } = maps;
      const added = ARGUMENT.postOperation | ARGUMENT.second;
      return this.#make("convolution+norm", key, description, maps, (weights) => [
        operand(ARGUMENT.source, x.stored, x.computed),
        { index: ARGUMENT.weights, descriptor: weights },
        operand(ARGUMENT.bias, this.#biasOf(key)),
        operand(ARGUMENT.destination, y.stored, y.computed),
        ...(residual ? [operand(added, y.stored, y.computed)] : []),
      ]);
    });
  }

  /** Operands: dy, weights, dx. */
  backwardInput(key: ConvolutionKey): Convolution {
    const name = "convolution backward input";
    return this.#workshop.once(`${name} ${text(key)}`, () => {
      const { library } = this.#workshop;
      const any = this.#anyWeights(key, this.#workshop.precision);
      const { description, maps } = this.#describe(key, (maps) =>
        library.describe(
          name,
          (operation) =>
            library.symbols.convolutionBackwardData(
              operation,
              ALGORITHM.convolution,
              maps.x.computed.descriptor,
              addressOf(any),
              maps.y.computed.descriptor,
              ...placesOf(key),
            ),
          { hint: this.#hintFor(key, maps) },
        ),
      );
      const { x, y } = maps;
      return this.#make(name, key, description, maps, (weights) => [
        operand(ARGUMENT.dDestination, y.stored, y.computed),
        { index: ARGUMENT.weights, descriptor: weights },
        operand(ARGUMENT.dSource, x.stored, x.computed),
      ]);
    });
  }

  /** Operands: x, dy, gradient of the weights in float32. */
  backwardWeight(key: ConvolutionKey): Convolution {
    const name = "convolution backward weight";
    return this.#workshop.once(`${name} ${text(key)}`, () => {
      const { library } = this.#workshop;
      const any = this.#anyWeights(key, "f32");
      const { description, maps } = this.#describe(key, (maps) =>
        library.describe(
          name,
          (operation) =>
            library.symbols.convolutionBackwardWeights(
              operation,
              ALGORITHM.convolution,
              maps.x.computed.descriptor,
              addressOf(any),
              0,
              maps.y.computed.descriptor,
              ...placesOf(key),
            ),
          { hint: this.#hintFor(key, maps) },
        ),
      );
      const { x, y } = maps;
      return this.#make(
        name,
        key,
        description,
        maps,
        (dWeights) => [
          operand(ARGUMENT.source, x.stored, x.computed),
          operand(ARGUMENT.dDestination, y.stored, y.computed),
          { index: ARGUMENT.dWeights, descriptor: dWeights },
        ],
        { query: QUERY.dWeights, type: "f32" },
      );
    });
  }

  #make(
    kind: string,
    key: ConvolutionKey,
    description: Address,
    { x, y }: Maps,
    operandsWith: (weights: Address) => PrimitiveOptions["operands"],
    { query, type }: { readonly query: number; readonly type: Precision } = {
      query: QUERY.weights,
      type: this.#workshop.precision,
    },
  ): Convolution {
    const { library, layouts } = this.#workshop;
    const weights = library.symbols.descriptorOf(description, query, 0);
    return {
      x: x.stored,
      y: y.stored,
      weights: layouts.chosen(key.weight, weights, type),
      primitive: this.#workshop.make({
        operation: operationOf(kind, key),
        description,
        operands: operandsWith(weights),
      }),
    };
  }

  /**
   * Describes with the maps as they are kept. Where oneDNN has only plain loops for that, such as
   * for a 3x3 kernel on 2x2 pixels, it may still have a matrix product for NCHW.
   */
  #describe(
    { x, weight, geometry }: ConvolutionKey,
    describe: (maps: Maps) => Address,
  ): { readonly description: Address; readonly maps: Maps } {
    const { library } = this.#workshop;
    const yShape = convolutionShape(x, weight, geometry);
    const kept = { x: this.#workshop.map(x), y: this.#workshop.map(yShape) };
    const first = { description: describe(kept), maps: kept };
    if (!SLOW.test(library.implementationOf(first.description))) return first;
    const plain = { x: this.#workshop.plainMap(x), y: this.#workshop.plainMap(yShape) };
    const second = { description: describe(plain), maps: plain };
    const isBetter = !SLOW.test(library.implementationOf(second.description));
    const [taken, left] = isBetter ? [second, first] : [first, second];
    this.#workshop.keep(left.description);
    return taken;
  }

  #describeForward(
    key: ConvolutionKey,
    { x, y }: Maps,
    prop: number,
    after?: PostOperations,
  ): Address {
    const { library, precision } = this.#workshop;
    const any = this.#anyWeights(key, precision);
    return library.describe(
      "convolution",
      (operation) =>
        library.symbols.convolutionForward(
          operation,
          prop,
          ALGORITHM.convolution,
          x.computed.descriptor,
          addressOf(any),
          prop === PROP.inference ? this.#biasOf(key).descriptor : 0,
          y.computed.descriptor,
          ...placesOf(key),
        ),
      after && { after },
    );
  }

  /** Backward passes are described beside a forward with the same maps. */
  #hintFor(key: ConvolutionKey, maps: Maps): Address {
    const layouts = `${maps.x.computed.descriptor} ${maps.y.computed.descriptor}`;
    return this.#workshop.once(`hint ${text(key)} ${layouts}`, () =>
      this.#workshop.keep(this.#describeForward(key, maps, PROP.training)),
    );
  }

  #biasOf({ weight }: ConvolutionKey): Layout {
    return this.#workshop.layouts.plain([weight[0]!]);
  }

  /** Leaves the layout to the primitive. */
  #anyWeights({ weight }: ConvolutionKey, type: Precision): Uint8Array {
    return this.#workshop.library.taggedDescriptor(weight, DATA_TYPE[type]);
  }
}

/** Strides, and padding on either side. */
function placesOf({ geometry: { stride, padding } }: ConvolutionKey) {
  const edge = wide([padding, padding]);
  return [wide([stride, stride]), edge, edge] as const;
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
