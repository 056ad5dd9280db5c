/** The certificates of test/fixtures/tls, as files, as options, and as transports. */

import { readFileSync } from "node:fs";
import path from "node:path";
import { type Transport, tlsTransport } from "../../proto/transport.ts";
import { ROOT } from "./sources.ts";

/** Whose certificate; test/fixtures/tls/README.md says what is in each. */
export type CertificateName = "member" | "named" | "expired" | "stranger";

/** A PEM file of the fixtures. */
export function tlsFile(name: string): string {
  return path.join(ROOT, "test/fixtures/tls", name);
}

/** The options of a command that has this certificate. */
export function tlsFlags(name: CertificateName, ca = "ca"): string[] {
  const own = ["--tls-cert", tlsFile(`${name}.pem`), "--tls-key", tlsFile(`${name}.key`)];
  return [...own, "--tls-ca", tlsFile(`${ca}.pem`)];
}

/** A transport with this certificate, unchecked as no command would have it. */
export function testTransport(
  name: CertificateName,
  { ca = "ca", serverName = "" }: { readonly ca?: string; readonly serverName?: string } = {},
): Transport {
  const identity = {
    certificate: readFileSync(tlsFile(`${name}.pem`)),
    key: readFileSync(tlsFile(`${name}.key`)),
    ca: readFileSync(tlsFile(`${ca}.pem`)),
  };
  return tlsTransport(identity, serverName);
}
