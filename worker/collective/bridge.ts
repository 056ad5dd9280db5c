import type { MessagePort } from "node:worker_threads";
import type { PeerGroup } from "./peer-group.ts";
import { type ProcessGroup, soloGroup } from "./process-group.ts";

/** The engine thread's end of a group. Send it with `[link.port]` as the transfer list. */
export interface GroupLink {
  readonly port: MessagePort;
  readonly control: SharedArrayBuffer;
  readonly rank: number;
  readonly worldSize: number;
}

export interface GroupBridge {
  readonly link: GroupLink;
  /** Fails what the engine thread still waits for, and closes the port. The group stays open. */
  close(): void;
}

/** Main thread: serves `group` to one engine thread. */
export function bridgeGroup(_group: PeerGroup): GroupBridge {
  throw new Error("unbuilt");
}

/** Engine thread: the blocking side of the bridge. */
export function connectGroup(_link: GroupLink): ProcessGroup {
  return soloGroup;
}
