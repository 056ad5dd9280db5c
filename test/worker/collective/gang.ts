import {
  type JoinOptions,
  joinGroup,
  type PeerGroup,
} from "../../../worker/collective/peer-group.ts";
import {
  type PeerServer,
  type PeerServerOptions,
  startPeerServer,
} from "../../../worker/collective/peer-server.ts";

export type Overrides = Partial<Omit<JoinOptions, "server" | "rank" | "peers">>;

/** All ranks of a gang in this process, each with a server of its own on a loopback port. */
export interface Gang {
  readonly servers: readonly PeerServer[];
  readonly groups: readonly PeerGroup[];
  /** Runs one member function per rank, all at once. */
  each<T>(member: (group: PeerGroup) => Promise<T>): Promise<T[]>;
  /** Closes all groups at once, then the servers. */
  close(): Promise<void>;
}

export async function formGang(
  worldSize: number,
  overrides: Overrides = {},
  serverOptions: Partial<PeerServerOptions> = {},
): Promise<Gang> {
  const { transport } = overrides;
  const own = { ...serverOptions, ...(transport ? { transport } : {}) };
  const ranks = Array.from({ length: worldSize });
  const servers = await Promise.all(ranks.map(() => startLoopbackServer(own)));
  const peers = servers.map(({ address }, rank) => ({ workerId: `w${rank}`, address }));
  const groups = await Promise.all(
    servers.map((server, rank) =>
      joinGroup({ ...joinDefaults(server, rank), peers, ...overrides }),
    ),
  );
  return {
    servers,
    groups,
    each: (member) => Promise.all(groups.map(member)),
    close: async () => {
      await Promise.all(groups.map((group) => group.close()));
      await Promise.all(servers.map((server) => server.close()));
    },
  };
}

export function startLoopbackServer(options: Partial<PeerServerOptions> = {}): Promise<PeerServer> {
  return startPeerServer({ host: "127.0.0.1", port: 0, joinToken: "secret", ...options });
}

export function joinDefaults(server: PeerServer, rank: number) {
  return {
    server,
    rank,
    experimentId: "e1",
    generation: 4,
    wire: "f32",
    formationTimeoutMs: 20_000,
    joinToken: "secret",
  } as const;
}
