/** What tests have left behind: processes, listening sockets, files. Known on Linux only. */

import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import path from "node:path";

/** The variable by which the processes of one run of the tests are found. */
export const RUN_MARK = "FLEET_TEST_RUN";

const SHARED_MEMORY = "/dev/shm";
/** The state LISTEN in /proc/net/tcp. */
const LISTENING = "0A";

export interface Leak {
  readonly what: string;
  /** Of a process that is to be ended. */
  readonly pid?: number;
}

/**
 * @param options.mark the value of RUN_MARK that the run's processes have
 * @param options.folder where the run's temporary files are
 * @param options.sinceMs when the run began, for shared memory of our names
 */
export function findLeaks(options: {
  readonly mark: string;
  readonly folder: string;
  readonly sinceMs: number;
}): readonly Leak[] {
  const { mark, folder, sinceMs } = options;
  const children = markedProcesses(mark).filter((pid) => pid !== process.pid);
  return [
    ...children.map((pid) => ({ pid, what: `process ${pid}: ${commandLine(pid)}` })),
    ...[process.pid, ...children].flatMap((pid) =>
      listeningPorts(pid).map((port) => ({ what: `port ${port}, on which ${pid} listens` })),
    ),
    ...readdirSync(folder).map((name) => ({ what: `file ${path.join(folder, name)}` })),
    ...sharedMemory(sinceMs).map((file) => ({ what: `shared memory ${file}` })),
  ];
}

function markedProcesses(mark: string): readonly number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => {
    const environment = unlessGone(() => readFileSync(`/proc/${pid}/environ`, "latin1"));
    return environment?.split("\0").includes(`${RUN_MARK}=${mark}`);
  });
}

function commandLine(pid: number): string {
  const text = unlessGone(() => readFileSync(`/proc/${pid}/cmdline`, "utf8"));
  return (text ?? "").replaceAll("\0", " ").trim();
}

function listeningPorts(pid: number): readonly number[] {
  const names = unlessGone(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
  const sockets = new Set(
    names.map((name) => unlessGone(() => readlinkSync(`/proc/${pid}/fd/${name}`))),
  );
  return ["tcp", "tcp6"].flatMap((table) => {
    const [, ...rows] = readFileSync(`/proc/net/${table}`, "latin1").trim().split("\n");
    return rows.flatMap((row) => {
      const [, local = "", , state, , , , , , inode] = row.trim().split(/\s+/);
      if (state !== LISTENING || !sockets.has(`socket:[${inode}]`)) return [];
      return [Number.parseInt(local.split(":")[1] ?? "", 16)];
    });
  });
}

function sharedMemory(sinceMs: number): readonly string[] {
  const names = unlessGone(() => readdirSync(SHARED_MEMORY)) ?? [];
  const files = names.filter((name) => name.includes("simclr"));
  return files
    .map((name) => path.join(SHARED_MEMORY, name))
    .filter((file) => (unlessGone(() => statSync(file).ctimeMs) ?? 0) >= sinceMs);
}

/** A process or file may go while it is looked at, and a stranger's is none of ours. */
function unlessGone<Value>(look: () => Value): Value | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
