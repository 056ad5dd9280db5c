/** Products of row-major float32 matrices. */

import type { Library } from "./library.ts";
import type { NativeWork } from "./native-work.ts";
import type { Address } from "./symbols.ts";

const [PLAIN, TRANSPOSED] = ["N".charCodeAt(0), "T".charCodeAt(0)] as const;

/** A matrix as it lies in memory, and whether its transpose is meant. */
export interface Operand {
  readonly address: Address;
  readonly rows: number;
  readonly columns: number;
  readonly transposed?: boolean;
}

export class Matrices {
  readonly #library: Library;
  readonly #work: NativeWork;

  constructor(library: Library, work: NativeWork) {
    this.#library = library;
    this.#work = work;
  }

  /**
   * c = scale a b, or with `accumulate` c += scale a b.
   * @param c address of [rows of a, columns of b]
   */
  multiply(
    a: Operand,
    b: Operand,
    c: Address,
    { scale = 1, accumulate = false }: { scale?: number; accumulate?: boolean } = {},
  ): void {
    const [rows, inner] = a.transposed ? [a.columns, a.rows] : [a.rows, a.columns];
    const columns = b.transposed ? b.rows : b.columns;
    const name = `matrix product [${rows},${inner}] * [${inner},${columns}]`;
    const operation = { name, implementation: "sgemm", flops: 2 * rows * inner * columns };
    this.#work.run(operation, () => {
      const status = this.#library.symbols.sgemm(
        a.transposed ? TRANSPOSED : PLAIN,
        b.transposed ? TRANSPOSED : PLAIN,
        rows,
        columns,
        inner,
        scale,
        a.address,
        a.columns,
        b.address,
        b.columns,
        accumulate ? 1 : 0,
        c,
        columns,
      );
      this.#library.check(name, status);
    });
  }
}
