/** The check that follows the last test finds what it has to. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { findLeaks, RUN_MARK } from "./support/leaks.ts";
import { startNode, startProcess, tempDir } from "./support/processes.ts";
import { until } from "./support/until.ts";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const LISTENS = `require("net").createServer().listen(0, "127.0.0.1", function () {
  console.log("port " + this.address().port); });`;

/** Whether it is more than the entry of an ended process that nobody has waited for. */
function isRunning(pid: number): boolean {
  const file = `/proc/${pid}/cmdline`;
  return existsSync(file) && readFileSync(file, "utf8") !== "";
}

describe("the search for leaks", function () {
  this.timeout(30_000);

  it("names processes, their ports, and files; and nothing once they are gone", async () => {
    const { dir: folder, remove } = await tempDir();
    const mark = randomUUID();
    const find = () => findLeaks({ mark, folder, sinceMs: Date.now() }).map(({ what }) => what);
    assert.deepEqual(find(), []);

    const left = startNode(["-e", LISTENS], { env: { [RUN_MARK]: mark } });
    const [, port] = await left.output(/port (\d+)/);
    mkdirSync(path.join(folder, "kept"));
    const [process, socket, file, ...others] = find();
    assert.match(process ?? "", new RegExp(`^process ${left.pid}: .*createServer`));
    assert.equal(socket, `port ${port}, on which ${left.pid} listens`);
    assert.equal(file, `file ${path.join(folder, "kept")}`);
    assert.deepEqual(others, []);

    await left.end("SIGKILL");
    await remove();
  });

  it("finds the children of those that a test has started", async () => {
    const { dir: folder, remove } = await tempDir();
    const mark = randomUUID();
    const shell = startProcess("sh", ["-c", "sleep 60 >/dev/null 2>&1 & echo ready; wait"], {
      env: { [RUN_MARK]: mark },
    });
    await shell.output(/ready/);
    await shell.end("SIGKILL");
    const leaks = findLeaks({ mark, folder, sinceMs: Date.now() });
    assert.deepEqual(
      leaks.map(({ what }) => /: (.*)$/.exec(what)?.[1]),
      ["sleep 60"],
    );
    for (const { pid } of leaks) globalThis.process.kill(pid ?? 0, "SIGKILL");
    await remove();
  });
});

describe("a run of mocha that leaves something", function () {
  this.timeout(60_000);

  it("fails and names it, and ends what is left of it", async () => {
    const { dir, remove } = await tempDir();
    const test = path.join(dir, "left.test.cjs");
    writeFileSync(
      test,
      `it("leaves a process and a folder", () => {
        const path = require("path").join(require("os").tmpdir(), "left-folder");
        require("fs").mkdirSync(path);
        const options = { detached: true, stdio: "ignore" };
        require("child_process").spawn("sleep", ["61"], options).unref();
      });`,
    );
    const hooks = path.join(HERE, "support/leak-check.js");
    const mocha = path.join(HERE, "../../node_modules/mocha/bin/mocha.js");
    const run = startNode([mocha, "--no-config", "--require", hooks, test]);
    const { code, stdout, stderr } = await run.exited();
    assert.equal(code, 1, stdout + stderr);
    assert.match(stdout, /1 passing/);
    assert.match(stdout, /the tests have left:\n\s+process \d+: sleep 61\n\s+file .*left-folder\n/);
    const pid = Number(/process (\d+): sleep/.exec(stdout)?.[1]);
    await until("its end", () => !isRunning(pid));
    await remove();
  });
});
