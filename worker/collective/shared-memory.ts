/**
 * Memory that two workers of one host share, so that bulk data between them passes neither a socket
 * nor a copy on the way in.
 *
 * It has no name that could be left behind: the owner makes it with memfd_create, and a peer opens
 * it through the owner's /proc entry, which works among processes of one user in one PID namespace.
 * It is sealed against shrinking, since reading beyond its end would kill the reader. A random
 * number at its beginning proves to the peer that it has found the right one.
 */

import { randomBytes } from "node:crypto";
import fs from "node:fs";
import { createRequire } from "node:module";
import type { SharedFloats } from "./process-group.ts";

/** What an owner tells a peer. */
export interface MemoryTicket {
  /** Which host and PID namespace `pid` belongs to. */
  readonly host: string;
  readonly pid: number;
  readonly fd: number;
  /** Of all of it. */
  readonly bytes: number;
  /** Hexadecimal. */
  readonly proof: string;
}

export interface SharedMemory {
  /** All of it but the proof. A peer's is read-only: writing to it would end the process. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** Nobody may touch `data` afterwards. */
  close(): void;
}

export interface OwnedMemory extends SharedMemory {
  readonly ticket: MemoryTicket;
}

/** Shared memory that every thread of its owner's process can use. */
interface OwnedFloats {
  /** They stay usable after `close`. */
  readonly floats: SharedFloats;
  readonly ticket: MemoryTicket;
  /** Nobody can open the memory afterwards. */
  close(): void;
}

/** Makes and opens shared memory; where the platform has none, there is no host for it. */
export interface MemoryHost {
  /** Undefined when the system gives none. */
  create(dataBytes: number): OwnedMemory | undefined;
  /** Undefined when the system gives none. */
  createFloats(length: number): OwnedFloats | undefined;
  /**
   * The same memory, valid for as long as somebody holds `floats`. Copies to and from a
   * SharedArrayBuffer go word by word, atomically, which takes twice as long.
   */
  plainViewOf(floats: SharedFloats): Float32Array;
  /** Undefined when the owner is on another host or out of reach. */
  open(ticket: MemoryTicket): SharedMemory | undefined;
}

/** Unit of a WebAssembly memory. */
const PAGE_BYTES = 65_536;
const PROOF_BYTES = 64;
const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;
/** More is refused: no peer of ours asks for so much. */
const BYTES_MAX = 2 ** 32;

/** Numbers of Linux. */
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 0x01;
const MAP_FIXED = 0x10;
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const SEAL_SEAL = 1;
const SEAL_SHRINK = 2;
const SEAL_GROW = 4;
/** What mmap returns when it fails. */
const FAILED = 0xffff_ffff_ffff_ffffn;

/** Undefined where workers cannot share memory: not on Linux, or without koffi for the platform. */
export function findMemoryHost(): MemoryHost | undefined {
  if (process.platform !== "linux") return undefined;
  try {
    const namespace = fs.readlinkSync("/proc/self/ns/pid");
    const boot = fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    const koffi = createRequire(import.meta.url)("koffi") as Koffi;
    return new LinuxMemoryHost(`${boot} ${namespace}`, bind(koffi));
  } catch {
    return undefined;
  }
}

type Koffi = typeof import("koffi").default;

interface Libc {
  readonly memfdCreate: (name: string, flags: number) => number;
  readonly fcntl: (fd: number, command: number, value: number) => number;
  readonly mmap: (
    at: bigint,
    n: number,
    access: number,
    flags: number,
    fd: number,
    o: number,
  ) => bigint | number;
  readonly munmap: (address: bigint, bytes: number) => number;
  readonly view: (address: bigint, bytes: number) => ArrayBuffer;
  readonly addressOf: (memory: Uint8Array) => bigint;
}

function bind(koffi: Koffi): Libc {
  const libc = koffi.load(null);
  return {
    memfdCreate: libc.func("int memfd_create(const char *name, unsigned int flags)"),
    fcntl: libc.func("int fcntl(int fd, int command, int value)"),
    mmap: libc.func(
      "uintptr_t mmap(uintptr_t at, size_t bytes, int access, int flags, int fd, long offset)",
    ),
    munmap: libc.func("int munmap(uintptr_t address, size_t bytes)"),
    view: (address, bytes) => koffi.view(address, bytes),
    addressOf: (memory) => koffi.address(memory),
  };
}

class LinuxMemoryHost implements MemoryHost {
  readonly #host: string;
  readonly #libc: Libc;

  constructor(host: string, libc: Libc) {
    this.#host = host;
    this.#libc = libc;
  }

  create(dataBytes: number): OwnedMemory | undefined {
    return this.#own("simclr-fleet", PROOF_BYTES + dataBytes, (fd, bytes) => {
      const { all, unmap } = this.#map(fd, bytes, PROT_READ | PROT_WRITE);
      const close = () => {
        unmap();
        fs.closeSync(fd);
      };
      return { all, made: { data: all.subarray(PROOF_BYTES), close } };
    });
  }

  /**
   * A SharedArrayBuffer cannot be made of memory that is there already. But the pages under one can
   * be exchanged where nothing else will ever lie in them: those of a WebAssembly memory are mapped
   * for it alone, and unmapped when it is collected.
   */
  createFloats(length: number): OwnedFloats | undefined {
    const pages = Math.ceil((PROOF_BYTES + length * FLOAT_BYTES) / PAGE_BYTES);
    return this.#own("simclr-floats", pages * PAGE_BYTES, (fd, bytes) => {
      const { buffer } = new WebAssembly.Memory<SharedArrayBuffer>({
        initial: pages,
        maximum: pages,
        shared: true,
      });
      const all = new Uint8Array(buffer);
      const access = PROT_READ | PROT_WRITE;
      this.#mmap(this.#libc.addressOf(all), bytes, access, MAP_SHARED | MAP_FIXED, fd);
      const floats = new Float32Array(buffer, PROOF_BYTES, length);
      return { all, made: { floats, close: () => fs.closeSync(fd) } };
    });
  }

  open(ticket: MemoryTicket): SharedMemory | undefined {
    if (ticket.host !== this.#host || !isSane(ticket)) return undefined;
    let fd: number | undefined;
    try {
      const { O_RDONLY, O_NONBLOCK } = fs.constants;
      fd = fs.openSync(`/proc/${ticket.pid}/fd/${ticket.fd}`, O_RDONLY | O_NONBLOCK);
      const seals = this.#libc.fcntl(fd, F_GET_SEALS, 0);
      const isSealed = seals >= 0 && (seals & SEAL_SHRINK) !== 0;
      if (!isSealed || fs.fstatSync(fd).size !== ticket.bytes) return undefined;
      const { all, unmap } = this.#map(fd, ticket.bytes, PROT_READ);
      if (Buffer.from(all.subarray(0, PROOF_BYTES)).toString("hex") !== ticket.proof) {
        unmap();
        return undefined;
      }
      return { data: all.subarray(PROOF_BYTES), close: unmap };
    } catch {
      return undefined;
    } finally {
      if (fd !== undefined) fs.closeSync(fd);
    }
  }

  plainViewOf(floats: SharedFloats): Float32Array {
    const { buffer, byteOffset, byteLength } = floats;
    const address = this.#libc.addressOf(new Uint8Array(buffer, byteOffset, byteLength));
    return new Float32Array(this.#libc.view(address, byteLength));
  }

  /** Makes a memory, and what `make` makes of it, and gives it its proof. */
  #own<Made extends object>(
    name: string,
    bytes: number,
    make: (fd: number, bytes: number) => { readonly all: Uint8Array; readonly made: Made },
  ): (Made & { readonly ticket: MemoryTicket }) | undefined {
    const fd = this.#libc.memfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return undefined;
    try {
      fs.ftruncateSync(fd, bytes);
      this.#libc.fcntl(fd, F_ADD_SEALS, SEAL_SHRINK | SEAL_GROW | SEAL_SEAL);
      const { all, made } = make(fd, bytes);
      const proof = randomBytes(PROOF_BYTES);
      all.set(proof);
      const host = this.#host;
      return {
        ...made,
        ticket: { host, pid: process.pid, fd, bytes, proof: proof.toString("hex") },
      };
    } catch {
      fs.closeSync(fd);
      return undefined;
    }
  }

  #map(fd: number, bytes: number, access: number) {
    const address = this.#mmap(0n, bytes, access, MAP_SHARED, fd);
    return {
      all: new Uint8Array(this.#libc.view(address, bytes)),
      unmap: () => void this.#libc.munmap(address, bytes),
    };
  }

  /** Throws when the system does not. */
  #mmap(at: bigint, bytes: number, access: number, flags: number, fd: number): bigint {
    const address = BigInt(this.#libc.mmap(at, bytes, access, flags, fd, 0));
    if (address === FAILED) throw new Error(`the system does not map ${bytes} bytes`);
    return address;
  }
}

/** What a peer claims is not opened before it makes sense. */
function isSane({ pid, fd, bytes }: MemoryTicket): boolean {
  const isId = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
  return isId(pid) && isId(fd) && isId(bytes) && bytes > PROOF_BYTES && bytes <= BYTES_MAX;
}
