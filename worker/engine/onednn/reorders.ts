import type { Layout } from "./layout.ts";
import { operand, type Primitive } from "./primitive.ts";
import { ARGUMENT } from "./symbols.ts";
import type { Workshop } from "./workshop.ts";

/** Copies of tensors from one layout to another. */
export class Reorders {
  readonly #workshop: Workshop;
  readonly #primitives = new Map<Layout, Map<Layout, Primitive>>();

  constructor(workshop: Workshop) {
    this.#workshop = workshop;
  }

  /** Operands: from, to. Both hold a tensor of the same shape. */
  between(from: Layout, to: Layout, shape: readonly number[]): Primitive {
    const known = this.#primitives.get(from)?.get(to);
    if (known) return known;
    const primitive = this.#make(from, to, shape);
    const targets = this.#primitives.get(from) ?? new Map<Layout, Primitive>();
    this.#primitives.set(from, targets.set(to, primitive));
    return primitive;
  }

  #make(from: Layout, to: Layout, shape: readonly number[]): Primitive {
    const { library, layouts, precision } = this.#workshop;
    const { symbols, engine } = library;
    // Where oneDNN has no bf16, both sides are read and written as float32.
    const computed = (layout: Layout): Layout =>
      precision === "f32" ? layouts.inFloat32(layout, shape) : layout;
    const [source, target] = [computed(from), computed(to)];
    const name = `reorder [${shape}]`;
    return this.#workshop.make({
      operation: { name, flops: 0 },
      description: library.make(name, (result) =>
        symbols.reorder(result, source.descriptor, engine, target.descriptor, engine, 0),
      ),
      operands: [operand(ARGUMENT.source, from, source), operand(ARGUMENT.destination, to, target)],
    });
  }
}
