/**
 * How the gRPC connections of a process are secured: decided once at its start, the same for the
 * coordinator and all peers, in both directions. It is mutual TLS or plain text, and plain text
 * leaves the machine only where somebody has asked for that.
 */

import { ChannelCredentials, type ChannelOptions, ServerCredentials } from "@grpc/grpc-js";
import { FleetError } from "./errors.ts";

export interface Transport {
  readonly security: "tls" | "plaintext";
  /** Whether other machines may be served and called. */
  readonly reach: "anywhere" | "loopback";
  readonly serverCredentials: ServerCredentials;
  readonly clientCredentials: ChannelCredentials;
  /** To be given to every channel that uses `clientCredentials`. */
  readonly clientOptions: ChannelOptions;
}

/** Who a process is, and whom it trusts. Everything is PEM. */
export interface TlsIdentity {
  /** The process's own certificate first, then those between it and the CA. */
  readonly certificate: Buffer;
  readonly key: Buffer;
  /** One CA, or several while one replaces another. */
  readonly ca: Buffer;
}

/** What needs no leave: nobody but this machine can listen in. */
export const PLAINTEXT: Transport = {
  security: "plaintext",
  reach: "loopback",
  serverCredentials: ServerCredentials.createInsecure(),
  clientCredentials: ChannelCredentials.createInsecure(),
  clientOptions: {},
};

/** What `--plaintext` asks for. */
export const PLAINTEXT_ANYWHERE: Transport = { ...PLAINTEXT, reach: "anywhere" };

/**
 * Both sides of a connection show a certificate of the CA.
 *
 * @param serverName the name that servers' certificates must have; without it that is the name or
 *   address under which a server is called
 */
export function tlsTransport({ certificate, key, ca }: TlsIdentity, serverName = ""): Transport {
  const pair = { private_key: key, cert_chain: certificate };
  return {
    security: "tls",
    reach: "anywhere",
    serverCredentials: ServerCredentials.createSsl(ca, [pair], true),
    clientCredentials: ChannelCredentials.createSsl(ca, key, certificate),
    clientOptions: serverName === "" ? {} : { "grpc.ssl_target_name_override": serverName },
  };
}

/** Flags and meanings of the options that every command with a connection has. */
export const TRANSPORT_OPTIONS = [
  ["--tls-cert <file>", "PEM certificate, for mutual TLS with the next two ($SIMCLR_TLS_CERT)"],
  ["--tls-key <file>", "PEM key of the certificate ($SIMCLR_TLS_KEY)"],
  ["--tls-ca <file>", "PEM certificate of the CA that all must have theirs of ($SIMCLR_TLS_CA)"],
  [
    "--tls-server-name <name>",
    "name in the others' certificates, if not the one they are called by ($SIMCLR_TLS_SERVER_NAME)",
  ],
  ["--plaintext", "no TLS, also to and from other machines"],
] as const;

/**
 * To be called with every host that is listened on, called, or told to others.
 *
 * @param what names it in the message, e.g. "--host"
 * @throws {FleetError} USAGE when plain text would leave the machine unasked
 */
export function checkReach(transport: Transport, what: string, host: string): void {
  if (transport.reach === "anywhere" || isLoopback(host)) return;
  throw new FleetError(
    "USAGE",
    `${what} ${host} is not this machine's loopback, and nothing would be encrypted: ` +
      "give --tls-cert, --tls-key and --tls-ca, or say --plaintext",
  );
}

/**
 * Checks what is listened on: {@link checkReach}, and that not everybody may join.
 *
 * @throws {FleetError} USAGE
 */
export function checkListener(
  transport: Transport,
  { host, joinToken }: { readonly host: string; readonly joinToken: string },
): void {
  checkReach(transport, "--host", host);
  if (joinToken !== "" || isLoopback(host)) return;
  throw new FleetError(
    "USAGE",
    `listening on ${host} needs a secret of the cluster: set $SIMCLR_JOIN_TOKEN or --join-token`,
  );
}

/** Whether nobody but this machine can be meant. Only `localhost` is taken for such a name. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** "::1", 80 -> "[::1]:80" */
export function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** "[::1]:80" -> "::1" */
export function hostOf(address: string): string {
  return address.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");
}
