/**
 * Buffers for frames of one size, used again and again: fresh ones of this size cost more in page
 * faults and garbage collection than everything else that happens to them.
 */
export class FramePool {
  readonly #frameBytes: number;
  readonly #idle: Buffer[] = [];

  constructor(frameBytes: number) {
    this.#frameBytes = frameBytes;
  }

  /** A buffer of `bytes`, at most the pool's frame size, 8-byte aligned, with anything in it. */
  take(bytes: number): Buffer {
    const whole = this.#idle.pop() ?? Buffer.from(new ArrayBuffer(this.#frameBytes));
    return whole.subarray(0, bytes);
  }

  /** Takes back what `take` gave, once nobody reads it any more. */
  give(frame: Buffer): void {
    this.#idle.push(Buffer.from(frame.buffer, frame.byteOffset, this.#frameBytes));
  }
}
