/** A TCP proxy that can stop to pass anything on, as a broken network does: no socket is closed. */

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";

export interface PartitionProxy {
  readonly port: number;
  /** How many pieces of data were held back. */
  readonly heldBack: number;
  cut(): void;
  /** Passes on what was held back, and everything after that. */
  heal(): void;
  close(): Promise<void>;
}

/** @param port of the server, on this machine */
export async function startPartitionProxy(port: number): Promise<PartitionProxy> {
  const sockets = new Set<net.Socket>();
  let held: (() => void)[] = [];
  let isCut = false;
  let heldBack = 0;

  const pass = (act: () => void): void => {
    if (isCut) {
      heldBack++;
      held.push(act);
    } else {
      act();
    }
  };
  const join = (from: net.Socket, to: net.Socket): void => {
    sockets.add(from);
    from.setNoDelay(true);
    from.on("data", (piece) => pass(() => to.write(piece)));
    from.on("error", () => {
      // `close` follows.
    });
    from.once("close", () => {
      sockets.delete(from);
      pass(() => to.destroy());
    });
  };
  const server = net.createServer((client) => {
    const upstream = net.connect(port, "127.0.0.1");
    join(client, upstream);
    join(upstream, client);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const bound = server.address();
  assert.ok(typeof bound === "object" && bound !== null);

  return {
    port: bound.port,
    get heldBack() {
      return heldBack;
    },
    cut: () => {
      isCut = true;
    },
    heal: () => {
      isCut = false;
      for (const act of held) act();
      held = [];
    },
    close: async () => {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
