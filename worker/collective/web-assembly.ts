/** What is used of the global; its own types come with those of a browser only. */
interface WebAssemblyGlobal {
  readonly Module: new (code: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
  readonly Memory: new (size: {
    /** In pages. */
    readonly initial: number;
    readonly maximum: number;
    readonly shared: true;
  }) => { readonly buffer: SharedArrayBuffer };
}

export const PAGE_BYTES = 65_536;

export const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyGlobal };
