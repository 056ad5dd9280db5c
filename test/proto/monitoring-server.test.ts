import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import type { GuardedHttp } from "../../proto/guarded-http.ts";
import { openMonitoringServer } from "../../proto/monitoring-server.ts";

describe("a monitoring server", function () {
  this.timeout(15_000);
  let server: GuardedHttp;
  before(async () => {
    const pages = {
      "/healthz": async () => ({ body: "ok\n" }),
      "/broken": () => Promise.reject(new Error("it broke")),
    };
    server = await openMonitoringServer({ host: "127.0.0.1", port: 0, pages });
  });
  after(() => server.close());

  const get = (path: string, init?: RequestInit): Promise<Response> =>
    fetch(`http://127.0.0.1:${server.port}${path}`, init);
  /** Whatever comes back until the server closes the connection. */
  const answerTo = async (request: string): Promise<string> => {
    const socket = net.connect(server.port, "127.0.0.1");
    let text = "";
    socket.on("data", (bytes) => {
      text += bytes;
    });
    socket.write(request);
    await once(
      socket.on("error", () => {}),
      "close",
    );
    return text;
  };

  it("shows pages to GET and HEAD only", async () => {
    assert.equal(await (await get("/healthz?now=1")).text(), "ok\n");
    assert.equal((await get("/healthz", { method: "HEAD" })).status, 200);
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
      const { status, headers } = await get("/healthz", { method });
      assert.deepEqual([status, headers.get("allow")], [405, "GET, HEAD"]);
    }
    for (const path of ["/", "/toString", "/healthz/", "//"]) {
      assert.equal((await get(path)).status, 404, path);
    }
  });

  it("says what is wrong with a page", async () => {
    const response = await get("/broken");
    assert.deepEqual([response.status, await response.text()], [500, "it broke\n"]);
  });

  it("refuses long headers and what is no HTTP", async () => {
    const long = `GET /healthz HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(9_000)}\r\n\r\n`;
    assert.match(await answerTo(long), /^HTTP\/1\.1 431 /);
    assert.match(await answerTo("\u0000\u0001\r\n\r\n"), /^HTTP\/1\.1 400 /);
  });

  it("answers while hundreds of requests do not come to their end, and ends those", async () => {
    const slow = Array.from({ length: 300 }, () => answerTo("GET /healthz HTTP/1.1\r\nHost:"));
    assert.equal((await get("/healthz")).status, 200);
    for (const answer of await Promise.all(slow)) assert.match(answer, /^HTTP\/1\.1 408 /);
    assert.equal((await get("/healthz")).status, 200);
  });
});
