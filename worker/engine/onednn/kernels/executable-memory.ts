/** Machine code in memory that the processor may run: written first, executable afterwards. */

import koffi from "koffi";

const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_PRIVATE_ANONYMOUS = 0x22;

const libc = koffi.load("libc.so.6");
const mmap = libc.func(
  "intptr_t mmap(uintptr_t address, size_t bytes, int access, int flags, int fd, int64_t offset)",
);
const mprotect = libc.func("int mprotect(uintptr_t address, size_t bytes, int access)");
const munmap = libc.func("int munmap(uintptr_t address, size_t bytes)");
const memcpy = libc.func("void memcpy(uintptr_t to, const void *from, size_t bytes)");

/** Owns one mapping; never writable and executable at once. */
export class ExecutableMemory {
  /** Where the code begins. Must not be called after {@link ExecutableMemory.close}. */
  readonly address: number;
  readonly #bytes: number;
  #isOpen = true;

  private constructor(address: number, bytes: number) {
    this.address = address;
    this.#bytes = bytes;
  }

  /** Throws where the system gives no memory or forbids to run what was written there. */
  static of(code: Uint8Array): ExecutableMemory {
    const bytes = code.length;
    const address: number = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
    if (address === -1) {
      throw new Error(`no memory for ${bytes} bytes of machine code (errno ${koffi.errno()})`);
    }
    const mapped = new ExecutableMemory(address, bytes);
    memcpy(address, code, bytes);
    if (mprotect(address, bytes, PROT_READ | PROT_EXEC) !== 0) {
      const errno = koffi.errno();
      mapped.close();
      throw new Error(
        `the system forbids to run machine code made at run time (mprotect: errno ${errno}); ` +
          "SELinux's execmem or a seccomp filter can be the reason",
      );
    }
    return mapped;
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    munmap(this.address, this.#bytes);
  }
}
