import { POOL, pooledShape } from "../shapes.ts";
import type { Layout } from "./layout.ts";
import { wide } from "./library.ts";
import { operand, type Primitive } from "./primitive.ts";
import { type Address, ALGORITHM, ARGUMENT, PROP, QUERY } from "./symbols.ts";
import type { MapLayout, Workshop } from "./workshop.ts";

export interface MaxPool {
  readonly workspace: Layout;
  /** Operands: x, y, workspace. */
  readonly forward: Primitive;
  /** Operands: dy, workspace, dx. */
  readonly backward: Primitive;
}

interface Window {
  readonly algorithm: number;
  readonly kernel: readonly [number, number];
  readonly stride: number;
  readonly padding: number;
}

export class Pools {
  readonly #workshop: Workshop;

  constructor(workshop: Workshop) {
    this.#workshop = workshop;
  }

  max(shape: readonly number[]): MaxPool {
    return this.#workshop.once(`max pool ${shape}`, () => {
      const { library, layouts, precision } = this.#workshop;
      const [x, y] = [this.#workshop.map(shape), this.#workshop.map(pooledShape(shape))];
      const name = `max pool [${shape}]`;
      const { stride, padding, window } = POOL;
      const square = [window, window] as const;
      const [forward, backward] = this.#describe(name, x, y, {
        algorithm: ALGORITHM.maxPool,
        kernel: square,
        stride,
        padding,
      });
      const workspace = library.symbols.descriptorOf(forward, QUERY.workspace, 0);
      const kept = { index: ARGUMENT.workspace, descriptor: workspace };
      return {
        // Only its size matters to anyone but the primitive.
        workspace: layouts.chosen([...shape, 0], workspace, precision),
        forward: this.#workshop.make({
          operation: { name, flops: 0 },
          description: forward,
          operands: [
            operand(ARGUMENT.source, x.stored, x.computed),
            operand(ARGUMENT.destination, y.stored, y.computed),
            kept,
          ],
        }),
        backward: this.#workshop.make({
          operation: { name: `max pool backward [${shape}]`, flops: 0 },
          description: backward,
          operands: [
            operand(ARGUMENT.dDestination, y.stored, y.computed),
            kept,
            operand(ARGUMENT.dSource, x.stored, x.computed),
          ],
        }),
      };
    });
  }

  /** Of the average over all pixels. Operands: dy [N, C, 1, 1], dx. */
  averageBackward(shape: readonly number[]): Primitive {
    return this.#workshop.once(`average pool backward ${shape}`, () => {
      const [images, channels, height, width] = shape as [number, number, number, number];
      const [x, y] = [this.#workshop.map(shape), this.#workshop.map([images, channels, 1, 1])];
      const name = `average pool backward [${shape}]`;
      const [forward, backward] = this.#describe(name, x, y, {
        algorithm: ALGORITHM.averagePool,
        kernel: [height, width],
        stride: 1,
        padding: 0,
      });
      this.#workshop.keep(forward);
      return this.#workshop.make({
        operation: { name, flops: 0 },
        description: backward,
        operands: [
          operand(ARGUMENT.dDestination, y.stored, y.computed),
          operand(ARGUMENT.dSource, x.stored, x.computed),
        ],
      });
    });
  }

  #describe(
    name: string,
    { computed: x }: MapLayout,
    { computed: y }: MapLayout,
    { algorithm, kernel, stride, padding }: Window,
  ): readonly [forward: Address, backward: Address] {
    const { library } = this.#workshop;
    const { poolingForward, poolingBackward } = library.symbols;
    const [source, destination] = [x.descriptor, y.descriptor];
    const edge = wide([padding, padding]);
    const places = [wide([stride, stride]), wide(kernel), edge, edge] as const;
    const forward = library.describe(name, (operation) =>
      poolingForward(operation, PROP.training, algorithm, source, destination, ...places),
    );
    const backward = library.describe(
      name,
      (operation) => poolingBackward(operation, algorithm, source, destination, ...places),
      { hint: forward },
    );
    return [forward, backward];
  }
}
