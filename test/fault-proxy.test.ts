import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { type FaultProxy, startFaultProxy } from "./support/fault-proxy.ts";
import { until } from "./support/until.ts";

describe("fault proxy", () => {
  let server: net.Server;
  let proxy: FaultProxy;
  /** The server's side of the connections. */
  const served: net.Socket[] = [];

  beforeEach(async () => {
    served.length = 0;
    server = net.createServer((socket) => {
      served.push(socket);
      socket.on("error", () => {});
      // Says everything twice.
      socket.on("data", (piece) => socket.write(Buffer.concat([piece, piece])));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as net.AddressInfo;
    proxy = await startFaultProxy(`127.0.0.1:${port}`);
  });
  afterEach(async () => {
    await proxy.close();
    for (const socket of served) socket.destroy();
    server.close();
  });

  function connect() {
    const heard = { text: "", ended: "" };
    const socket = net.connect(Number(proxy.address.split(":")[1]), "127.0.0.1");
    socket.on("data", (piece) => {
      heard.text += piece.toString("latin1");
    });
    socket.on("error", (error: NodeJS.ErrnoException) => {
      heard.ended = error.code ?? "error";
    });
    socket.on("end", () => {
      heard.ended ||= "end";
    });
    return { socket, heard };
  }

  it("passes on what is said, and that a side has finished", async () => {
    const { socket, heard } = connect();
    socket.write("ab");
    await until("the answer", () => heard.text === "abab");
    served[0]!.end("c");
    await until("the end", () => heard.ended === "end");
    assert.equal(heard.text, "ababc");
    socket.end();
    await until("the connection to be gone", () => proxy.open === 0);
  });

  it("resets connections on both sides, and takes new ones", async () => {
    const { socket, heard } = connect();
    socket.write("a");
    await until("the answer", () => heard.text === "aa");
    let serverSaw = "";
    served[0]!.on("error", (error: NodeJS.ErrnoException) => {
      serverSaw = error.code ?? "error";
    });
    assert.equal(proxy.cut(), 1);
    await until("both to hear of it", () => heard.ended !== "" && serverSaw !== "");
    assert.deepEqual([heard.ended, serverSaw], ["ECONNRESET", "ECONNRESET"]);
    assert.equal(proxy.open, 0);

    const again = connect();
    again.socket.write("b");
    await until("the answer", () => again.heard.text === "bb");
    again.socket.destroy();
  });

  it("holds what is said, and its end, and gives it away when it is healed", async () => {
    const { socket, heard } = connect();
    socket.write("a");
    await until("the answer", () => heard.text === "aa");
    proxy.hold();
    socket.write("b");
    served[0]!.end("c");
    await until("both to be held", () => proxy.heldBytes === 2);
    assert.deepEqual(heard, { text: "aa", ended: "" });

    proxy.heal();
    await until("the end", () => heard.ended === "end");
    assert.equal(heard.text, "aac");
    assert.equal(proxy.heldBytes, 2);
    socket.destroy();
  });

  it("keeps a flood back in order", async () => {
    const { socket, heard } = connect();
    proxy.hold();
    const flood = Array.from({ length: 40_000 }, (_, i) => `${i},`).join("");
    socket.write(flood);
    await until("something to be held", () => proxy.heldBytes > 64 * 1024);
    proxy.heal();
    await until("all of it, twice", () => heard.text.length === 2 * flood.length);
    assert.ok(heard.text.endsWith("39999,"));
    socket.destroy();
  });

  it("refuses when the server is not there", async () => {
    server.close();
    await once(server, "close");
    const { heard } = connect();
    await until("the refusal", () => heard.ended !== "");
    assert.equal(heard.ended, "ECONNRESET");
    await until("the connection to be gone", () => proxy.open === 0);
  });
});
