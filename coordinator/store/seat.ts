/**
 * The place that a coordinator listens at, named so that no two processes can have it at the same
 * time: the kernel since its start, the network namespace and the socket's address. Host names
 * would not do, since containers and machines may share them.
 */

import { readFile, readlink } from "node:fs/promises";

/** Empty where the kernel does not tell. */
export async function seatOf(socket: string): Promise<string> {
  try {
    const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
    const network = await readlink("/proc/self/ns/net");
    return `${boot.trim()} ${network} ${socket}`;
  } catch {
    // Not Linux, or a closed /proc: then a former leader's key is waited for.
    return "";
  }
}
