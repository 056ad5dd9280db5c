/** A TCP proxy that can cut what goes through it, or let it stand still, and let it go on again. */

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";

/** What a connection that stands still may have taken from either side before it stops reading. */
const HELD_BYTES_MAX = 64 * 1024;

export interface FaultProxy {
  /** HOST:PORT */
  readonly address: string;
  /** Connections that are open now. */
  readonly open: number;
  /** Bytes that arrived while nothing was let through, so far. */
  readonly heldBytes: number;
  /** Resets every connection, on both sides. @returns how many there were */
  cut(): number;
  /** From now on nothing arrives any more, and nobody is told: as when a cable is pulled. */
  hold(): void;
  /** Lets everything through again, first of all what was held. */
  heal(): void;
  close(): Promise<void>;
}

/** @param target HOST:PORT of the server; it need not be there yet */
export async function startFaultProxy(target: string): Promise<FaultProxy> {
  const [host, port] = target.split(":");
  const links = new Set<Link>();
  let isHeld = false;
  let heldBytes = 0;

  // A side that has finished speaking may still be spoken to.
  const server = net.createServer({ allowHalfOpen: true }, (client) => {
    const link = openLink(client, net.connect({ port: Number(port), host, allowHalfOpen: true }), {
      isHeld: () => isHeld,
      onHeld: (bytes) => {
        heldBytes += bytes;
      },
      onClose: () => links.delete(link),
    });
    links.add(link);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const bound = server.address();
  assert.ok(typeof bound === "object" && bound !== null);

  const cut = (): number => {
    const count = links.size;
    for (const link of [...links]) link.cut();
    return count;
  };
  return {
    address: `127.0.0.1:${bound.port}`,
    get open() {
      return links.size;
    },
    get heldBytes() {
      return heldBytes;
    },
    cut,
    hold: () => {
      isHeld = true;
    },
    heal: () => {
      isHeld = false;
      for (const link of links) link.release();
    },
    close: async () => {
      const closed = once(server, "close");
      server.close();
      cut();
      await closed;
    },
  };
}

interface Link {
  /** Sends what was held. */
  release(): void;
  cut(): void;
}

interface LinkOptions {
  readonly isHeld: () => boolean;
  readonly onHeld: (bytes: number) => void;
  readonly onClose: () => void;
}

/** Joins two sockets: what one says and how it ends the other gets to know, unless it is held. */
function openLink(client: net.Socket, upstream: net.Socket, options: LinkOptions): Link {
  const ways = [pass(client, upstream, options), pass(upstream, client, options)];
  let isCut = false;
  const cut = (): void => {
    if (isCut) return;
    isCut = true;
    reset(client);
    reset(upstream);
    options.onClose();
  };
  let isBroken = false;
  const fail = (): void => {
    isBroken = true;
    if (!options.isHeld()) cut();
  };
  const closeTogether = (): void => {
    if (client.destroyed && upstream.destroyed) options.onClose();
  };
  for (const socket of [client, upstream]) {
    socket.setNoDelay(true);
    socket.on("error", fail);
    socket.once("close", closeTogether);
  }
  return {
    release: () => {
      for (const way of ways) way.release();
      if (isBroken) cut();
    },
    cut,
  };
}

/** Node.js 20 loses the handle of a socket that is reset while it is being shut down. */
function reset(socket: net.Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}

/** One direction. */
function pass(from: net.Socket, to: net.Socket, options: LinkOptions): Pick<Link, "release"> {
  const held: Buffer[] = [];
  let heldHere = 0;
  let hasEnded = false;
  const send = (piece: Buffer): void => {
    if (!to.destroyed && !to.write(piece)) from.pause();
  };
  to.on("drain", () => {
    if (heldHere === 0) from.resume();
  });
  from.on("data", (piece: Buffer) => {
    if (!options.isHeld()) return send(piece);
    held.push(piece);
    heldHere += piece.length;
    options.onHeld(piece.length);
    if (heldHere > HELD_BYTES_MAX) from.pause();
  });
  from.once("end", () => {
    hasEnded = true;
    if (!options.isHeld()) to.end();
  });
  return {
    release: () => {
      for (const piece of held.splice(0)) send(piece);
      heldHere = 0;
      if (hasEnded) to.end();
      else if (!to.writableNeedDrain) from.resume();
    },
  };
}
