/** Real processes for tests: started, awaited, and ended by the test that started them. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** Of the build that this test belongs to: dist/, or wherever it was built to. */
export const BUILD = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
export const COORDINATOR_MAIN = path.join(BUILD, "coordinator/main.js");
export const WORKER_MAIN = path.join(BUILD, "worker/main.js");

const OUTPUT_LENGTH_MAX = 1_000_000;

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TestProcess {
  readonly pid: number;
  readonly child: ChildProcess;
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** The first match of `pattern` in standard output; fails when the process ends without one. */
  output(pattern: RegExp): Promise<RegExpExecArray>;
  /** The same for standard error, where the log goes. */
  logged(pattern: RegExp): Promise<RegExpExecArray>;
  exited(): Promise<Exit>;
  /** Sends a signal and waits for the end. */
  end(signal?: NodeJS.Signals): Promise<Exit>;
}

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/**
 * Starts `node` with these arguments. The environment is the test's, less what would steer ours.
 */
export function startNode(args: readonly string[], options: StartOptions = {}): TestProcess {
  return startProcess(process.execPath, args, options);
}

export function startProcess(
  command: string,
  args: readonly string[],
  { env = {}, cwd }: StartOptions = {},
): TestProcess {
  const isOurs = (name: string): boolean => name === "REDIS_URL" || name.startsWith("SIMCLR_");
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !isOurs(name)),
  );
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...inherited, ...env },
    ...(cwd === undefined ? {} : { cwd }),
  });
  const stdout = collect(child, "stdout");
  const stderr = collect(child, "stderr");
  const ended = new Promise<Exit>((resolve, reject) => {
    child.once("error", reject);
    // After `close` all output has been read, after `exit` perhaps not.
    child.once("close", (code, signal) =>
      resolve({ code, signal, stdout: stdout.text(), stderr: stderr.text() }),
    );
  });
  ended.catch(() => {});
  return {
    pid: child.pid ?? 0,
    child,
    stdout: stdout.text,
    stderr: stderr.text,
    output: (pattern) => found(pattern, stdout, ended),
    logged: (pattern) => found(pattern, stderr, ended),
    exited: () => ended,
    end: async (signal = "SIGTERM") => {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      return await ended;
    },
  };
}

interface Collected {
  readonly text: () => string;
  readonly onText: (listener: () => void) => () => void;
}

function collect(child: ChildProcess, name: "stdout" | "stderr"): Collected {
  let text = "";
  const stream = child[name];
  assert.ok(stream);
  stream.setEncoding("utf8");
  stream.on("data", (chunk: string) => {
    text = `${text}${chunk}`.slice(-OUTPUT_LENGTH_MAX);
  });
  return {
    text: () => text,
    onText: (listener) => {
      stream.on("data", listener);
      return () => stream.off("data", listener);
    },
  };
}

async function found(
  pattern: RegExp,
  collected: Collected,
  ended: Promise<Exit>,
): Promise<RegExpExecArray> {
  return await new Promise((resolve, reject) => {
    const look = (): void => {
      const match = pattern.exec(collected.text());
      if (!match) return;
      stop();
      resolve(match);
    };
    const stop = collected.onText(look);
    look();
    ended.then((exit) => {
      look();
      stop();
      reject(new Error(`ended with ${exit.code} before ${pattern}:\n${exit.stdout}${exit.stderr}`));
    }, reject);
  });
}

/** A port that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  assert.ok(typeof address === "object" && address !== null);
  return address.port;
}

/** A new folder, and the way to remove it. */
export async function tempDir(): Promise<{ readonly dir: string; remove(): Promise<void> }> {
  const dir = await mkdtemp(path.join(tmpdir(), "simclr-test-"));
  return { dir, remove: () => rm(dir, { recursive: true, force: true }) };
}

/** Whether a process of this id exists, a finished one that nobody has waited for included. */
export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

export interface TestRedis {
  readonly url: string;
  readonly port: number;
  /** Ends the server as a crash would; `restart` brings it back with what it had on disk. */
  crash(): Promise<void>;
  restart(): Promise<void>;
  close(): Promise<void>;
}

/**
 * A redis-server of the test's own, append-only, on a free port.
 *
 * @param password empty lets everybody in
 */
export async function startRedis(password = ""): Promise<TestRedis> {
  const { dir, remove } = await tempDir();
  const port = await freePort();
  const start = async (): Promise<TestProcess> => {
    const server = startProcess("redis-server", [
      ...["--port", String(port), "--bind", "127.0.0.1", "--dir", dir],
      ...["--appendonly", "yes", "--appendfsync", "always", "--save", ""],
      ...["--maxmemory-policy", "noeviction", "--requirepass", password],
    ]);
    await server.output(/Ready to accept connections/);
    return server;
  };

  let server = await start();
  return {
    url: `redis://${password === "" ? "" : `:${password}@`}127.0.0.1:${port}/0`,
    port,
    crash: async () => {
      await server.end("SIGKILL");
    },
    restart: async () => {
      server = await start();
    },
    close: async () => {
      await server.end("SIGKILL");
      await remove();
    },
  };
}
