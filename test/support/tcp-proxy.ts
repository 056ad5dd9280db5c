/** A TCP proxy for HTTP/2 that harms what flows from the server to the client. */

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { Transform, type TransformCallback } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";

/** `afterBytes` counts the payload of DATA frames of one connection, whichever gets there first. */
export type TcpFault =
  /** Closes the connection there. */
  | { readonly type: "cut"; readonly afterBytes: number }
  /** Flips one bit of the byte there. */
  | { readonly type: "flip"; readonly afterBytes: number }
  /** Lets every connection carry so much. */
  | { readonly type: "throttle"; readonly bytesPerSecond: number };

export interface TcpProxy {
  /** HOST:PORT */
  readonly address: string;
  /** How often the connection was cut, a bit flipped, or a piece of data held back. */
  readonly fired: number;
  close(): Promise<void>;
}

/** @param target HOST:PORT of the server */
export async function startTcpProxy(target: string, fault: TcpFault): Promise<TcpProxy> {
  const [host, port] = target.split(":");
  const sockets = new Set<net.Socket>();
  let fired = 0;

  const server = net.createServer((client) => {
    const upstream = net.connect(Number(port), host);
    const ends = [client, upstream];
    const cut = () => {
      for (const socket of ends) socket.destroy();
    };
    for (const socket of ends) {
      sockets.add(socket);
      socket.setNoDelay(true);
      // A peer that is killed resets its connection: so it is passed on.
      socket.on("error", cut);
      socket.once("close", () => {
        sockets.delete(socket);
        cut();
      });
    }
    client.pipe(upstream);
    upstream.pipe(harm(cut)).pipe(client);
  });

  function harm(cut: () => void): Transform {
    if (fault.type === "throttle") {
      return new Throttle(fault.bytesPerSecond, () => {
        fired++;
      });
    }
    return new FaultAt(fault.afterBytes, (piece, at) => {
      if (fired > 0) return piece;
      fired++;
      if (fault.type === "cut") {
        queueMicrotask(cut);
        return piece.subarray(0, at);
      }
      const flipped = Buffer.from(piece);
      flipped[at]! ^= 1;
      return flipped;
    });
  }

  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const bound = server.address();
  assert.ok(typeof bound === "object" && bound !== null);
  return {
    address: `127.0.0.1:${bound.port}`,
    get fired() {
      return fired;
    },
    close: async () => {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** Calls `act` with the piece of data in which the DATA byte `afterBytes` lies, and its place. */
class FaultAt extends Transform {
  readonly #data = new DataBytes();
  readonly #act: (piece: Buffer, at: number) => Buffer;
  #left: number;

  constructor(afterBytes: number, act: (piece: Buffer, at: number) => Buffer) {
    super();
    this.#left = afterBytes;
    this.#act = act;
  }

  override _transform(piece: Buffer, _encoding: string, done: TransformCallback): void {
    let passed = piece;
    for (const { begin, end } of this.#data.runsIn(piece)) {
      const length = end - begin;
      if (this.#left >= 0 && this.#left < length) passed = this.#act(piece, begin + this.#left);
      this.#left -= length;
    }
    done(null, passed);
  }
}

class Throttle extends Transform {
  readonly #bytesPerSecond: number;
  readonly #heldBack: () => void;

  constructor(bytesPerSecond: number, heldBack: () => void) {
    super();
    this.#bytesPerSecond = bytesPerSecond;
    this.#heldBack = heldBack;
  }

  override _transform(piece: Buffer, _encoding: string, done: TransformCallback): void {
    this.#heldBack();
    pause((1000 * piece.length) / this.#bytesPerSecond).then(() => done(null, piece), done);
  }
}

const FRAME_HEADER_BYTES = 9;
const DATA = 0;

/** Follows a server's half of an HTTP/2 connection: 9-byte headers, each before its payload. */
class DataBytes {
  readonly #header: number[] = [];
  #payloadLeft = 0;

  /** Where in the next piece of the stream payload of DATA frames lies. */
  *runsIn(piece: Buffer): Generator<{ readonly begin: number; readonly end: number }> {
    for (let at = 0; at < piece.length; ) {
      if (this.#payloadLeft === 0 && this.#header.length < FRAME_HEADER_BYTES) {
        this.#header.push(piece[at]!);
        at++;
        if (this.#header.length < FRAME_HEADER_BYTES) continue;
        const [high = 0, middle = 0, low = 0] = this.#header;
        this.#payloadLeft = high * 2 ** 16 + middle * 2 ** 8 + low;
      }
      const end = Math.min(at + this.#payloadLeft, piece.length);
      if (this.#header[3] === DATA && end > at) yield { begin: at, end };
      this.#payloadLeft -= end - at;
      at = end;
      if (this.#payloadLeft === 0) this.#header.length = 0;
    }
  }
}
