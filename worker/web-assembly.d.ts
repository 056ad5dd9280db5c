/** What is used of the global; its own types come with those of a browser only. */
declare namespace WebAssembly {
  class Module {
    constructor(code: Uint8Array);
  }

  class Instance {
    constructor(module: Module, imports?: object);
    readonly exports: unknown;
  }

  class Memory<Buffer extends ArrayBufferLike = ArrayBuffer> {
    /** Sizes in pages of 64 KiB. */
    constructor(size: { initial: number; maximum: number; shared: true });
    readonly buffer: Buffer;
    /** Replaces `buffer` by a larger one. */
    grow(pages: number): number;
  }
}
