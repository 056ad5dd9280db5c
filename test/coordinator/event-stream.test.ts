import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import net, { type AddressInfo } from "node:net";
import express from "express";
import { EventStream } from "../../coordinator/http/event-stream.ts";

/** More than two sockets hold. */
const LARGE = "x".repeat(16_000_000);
const STALL_MS = 250;

describe("an event stream", function () {
  this.timeout(10_000);
  let server: Server;
  let stream: EventStream;
  let stalls = 0;
  let closed: Promise<void>;

  before(async () => {
    const app = express();
    app.get("/", (request, response) => {
      closed = new Promise((resolve) => {
        const onStall = (): void => {
          stalls += 1;
        };
        stream = new EventStream(request, response, {
          stallMs: STALL_MS,
          onStall,
          onClose: resolve,
        });
      });
      stream.send("first", {});
      server.emit("opened");
    });
    server = createServer(app).listen(0, "127.0.0.1");
    await once(server, "listening");
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  beforeEach(() => {
    stalls = 0;
  });

  const open = async (): Promise<net.Socket> => {
    const { port } = server.address() as AddressInfo;
    const socket = net.connect(port, "127.0.0.1").on("error", () => {});
    const opened = once(server, "opened");
    socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await opened;
    return socket;
  };

  it("has numbered events, and tells how soon to come again", async () => {
    const socket = await open();
    stream.send("second", { a: "line\nand another" });
    let text = "";
    for await (const chunk of socket.setEncoding("utf8")) {
      text += chunk;
      if (text.includes("second") && text.includes("another")) break;
    }
    assert.match(text, /^HTTP\/1\.1 200 OK\r\n/);
    assert.match(text, /Content-Type: text\/event-stream\r\n/);
    assert.match(text, /retry: 2000\n\n/);
    assert.match(text, /id: 1\nevent: first\ndata: \{\}\n\n/);
    assert.match(text, /id: 2\nevent: second\ndata: \{"a":"line\\nand another"\}\n\n/);
    await closed;
    assert.equal(stalls, 0);
  });

  it("is not ready before what was sent is read, and is then", async () => {
    const socket = await open();
    socket.pause();
    assert.ok(stream.isReady);
    stream.send("large", { LARGE });
    assert.ok(!stream.isReady);
    let received = 0;
    for await (const chunk of socket) {
      received += (chunk as Buffer).length;
      if (received > LARGE.length && stream.isReady) break;
      if (received > LARGE.length) await new Promise(setImmediate);
    }
    await closed;
    assert.equal(stalls, 0);
  });

  it("cuts a reader off that has stopped reading", async () => {
    const socket = await open();
    socket.pause();
    stream.send("large", { LARGE });
    await closed;
    assert.equal(stalls, 1);
    assert.ok(!stream.isReady);
    const end = once(socket, "close");
    socket.resume();
    await end;
  });
});
