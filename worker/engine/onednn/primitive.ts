/** A compiled operation of oneDNN. */

import type { Arena, Block } from "./arena.ts";
import type { VectorKernels } from "./kernels/vector-kernels.ts";
import type { Layout } from "./layout.ts";
import type { Library } from "./library.ts";
import type { NativeWork, Operation } from "./native-work.ts";
import { type Address, ARGUMENT } from "./symbols.ts";

/** Bytes of `dnnl_exec_arg_t` in units of eight: an integer with padding, a handle. */
const ARGUMENT_WORDS = 2;
const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;
const OUTPUTS: ReadonlySet<number> = new Set([
  ARGUMENT.destination,
  ARGUMENT.dSource,
  ARGUMENT.dWeights,
]);

/** What primitives run with. */
export interface PrimitiveTools {
  readonly library: Library;
  readonly work: NativeWork;
  readonly arena: Arena;
  readonly kernels: VectorKernels;
}

export interface OperandOptions {
  readonly index: number;
  /** Of the memory that the primitive sees; must outlive it. */
  readonly descriptor: Address;
  /** Where the tensor is kept in bf16 but computed with in f32: how many numbers it has. */
  readonly converted?: number;
}

export interface PrimitiveOptions {
  readonly operation: Omit<Operation, "implementation">;
  /** Says how the operation is computed; owned by the primitive from now on. */
  readonly description: Address;
  readonly operands: readonly OperandOptions[];
}

interface Operand extends OperandOptions {
  readonly memory: Address;
}

export class Primitive {
  readonly #tools: PrimitiveTools;
  readonly #operation: Operation;
  readonly #description: Address;
  readonly #handle: Address;
  readonly #operands: readonly Operand[];
  readonly #arguments: BigUint64Array;

  constructor(tools: PrimitiveTools, { operation, description, operands }: PrimitiveOptions) {
    const { library } = tools;
    const { symbols } = library;
    this.#tools = tools;
    this.#description = description;
    this.#operation = { ...operation, implementation: library.implementationOf(description) };
    this.#handle = library.make(operation.name, (result) =>
      symbols.primitiveCreate(result, description),
    );
    this.#operands = operands.map((operand) => ({
      ...operand,
      memory: library.make("memory", (result) =>
        symbols.memoryCreate(result, operand.descriptor, library.engine, 0),
      ),
    }));
    this.#arguments = BigUint64Array.from(
      this.#operands.flatMap(({ index, memory }) => [BigInt(index), BigInt(memory)]),
    );
  }

  /** Computes with the operands at these addresses, given in the order of the options. */
  run(...addresses: readonly Address[]): void {
    const { library } = this.#tools;
    this.#tools.work.run(this.#operation, () => {
      const scratch: Block[] = [];
      const narrowings: (() => void)[] = [];
      for (const [k, operand] of this.#operands.entries()) {
        let address = addresses[k]!;
        if (operand.converted !== undefined) {
          const block = this.#tools.arena.take(operand.converted * FLOAT_BYTES);
          scratch.push(block);
          if (OUTPUTS.has(operand.index)) {
            narrowings.push(() => this.#narrow(operand.converted!, block.address, addresses[k]!));
          } else this.#widen(operand.converted, address, block.address);
          address = block.address;
        }
        const status = library.symbols.memorySetHandle(operand.memory, address, library.stream);
        library.check(`an operand of ${this.#operation.name}`, status);
      }
      this.#execute();
      for (const narrow of narrowings) narrow();
      for (const block of scratch) this.#tools.arena.release(block);
    });
  }

  close(): void {
    const { symbols } = this.#tools.library;
    symbols.primitiveDestroy(this.#handle);
    for (const { memory } of this.#operands) symbols.memoryDestroy(memory);
    symbols.primitiveDescriptorDestroy(this.#description);
  }

  #execute(): void {
    const { library } = this.#tools;
    const { execute, streamWait } = library.symbols;
    const count = this.#arguments.length / ARGUMENT_WORDS;
    const status = execute(this.#handle, library.stream, count, this.#arguments);
    library.check(this.#operation.name, status);
    streamWait(library.stream);
  }

  #widen(count: number, from: Address, to: Address): void {
    this.#tools.kernels.convert({ from: "bf16", to: "f32" }, count, from, to);
  }

  #narrow(count: number, from: Address, to: Address): void {
    this.#tools.kernels.convert({ from: "f32", to: "bf16" }, count, from, to);
  }
}

/** An operand that lies in memory as `stored` and is computed with as `computed`. */
export function operand(index: number, stored: Layout, computed: Layout = stored): OperandOptions {
  const { descriptor } = computed;
  if (stored.type === computed.type) return { index, descriptor };
  return { index, descriptor, converted: computed.bytes / FLOAT_BYTES };
}
