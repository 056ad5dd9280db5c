/** A compiled operation of oneDNN. */

import type { Library } from "./library.ts";
import type { Operation, Profiler } from "./profiler.ts";
import type { Address } from "./symbols.ts";

/** Bytes of `dnnl_exec_arg_t` in units of eight: an integer, padding, a handle. */
const ARGUMENT_WORDS = 2;

export interface PrimitiveOptions {
  readonly operation: Omit<Operation, "implementation">;
  /** Says how the operation is computed; owned by the primitive from now on. */
  readonly description: Address;
  /** Index of each argument and the descriptor of its memory, which must outlive the primitive. */
  readonly operands: readonly (readonly [index: number, descriptor: Address])[];
}

export class Primitive {
  readonly #library: Library;
  readonly #profiler: Profiler;
  readonly #operation: Operation;
  /** A backward primitive is described with that of its forward as a hint. */
  readonly description: Address;
  readonly #handle: Address;
  readonly #memories: readonly Address[];
  readonly #arguments: BigUint64Array;

  constructor(library: Library, profiler: Profiler, options: PrimitiveOptions) {
    const { description, operands } = options;
    const { symbols } = library;
    this.#library = library;
    this.#profiler = profiler;
    this.description = description;
    const implementation = library.implementationOf(description);
    this.#operation = { ...options.operation, implementation };
    this.#handle = library.make(options.operation.name, (result) =>
      symbols.primitiveCreate(result, description),
    );
    this.#memories = operands.map(([, descriptor]) =>
      library.make("memory", (result) =>
        symbols.memoryCreate(result, descriptor, library.engine, 0),
      ),
    );
    this.#arguments = new BigUint64Array(ARGUMENT_WORDS * operands.length);
    for (const [k, [index]] of operands.entries()) {
      this.#arguments[ARGUMENT_WORDS * k] = BigInt(index);
      this.#arguments[ARGUMENT_WORDS * k + 1] = BigInt(this.#memories[k]!);
    }
  }

  /** Computes with the operands at these addresses, given in the order of the options. */
  run(...addresses: readonly Address[]): void {
    const { symbols, stream } = this.#library;
    for (const [k, memory] of this.#memories.entries()) {
      const status = symbols.memorySetHandle(memory, addresses[k]!, stream);
      this.#library.check(`an operand of ${this.#operation.name}`, status);
    }
    this.#profiler.measure(this.#operation, () => {
      const status = symbols.execute(this.#handle, stream, this.#memories.length, this.#arguments);
      this.#library.check(this.#operation.name, status);
      symbols.streamWait(stream);
    });
  }

  close(): void {
    const { symbols } = this.#library;
    symbols.primitiveDestroy(this.#handle);
    for (const memory of this.#memories) symbols.memoryDestroy(memory);
    symbols.primitiveDescriptorDestroy(this.description);
  }
}
