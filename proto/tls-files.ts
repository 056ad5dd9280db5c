/**
 * The options of {@link TRANSPORT_OPTIONS}, turned into a transport. Whatever is wrong with the
 * files is found here, where it can be named: in a handshake it would be a closed connection. No
 * message holds anything of a file but its name and a certificate's subject and dates.
 */

import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { FleetError } from "./errors.ts";
import {
  PLAINTEXT,
  PLAINTEXT_ANYWHERE,
  type TlsIdentity,
  type Transport,
  tlsTransport,
} from "./transport.ts";

/** As commander gives them; what is absent may be in the environment. */
export interface TransportOptions {
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsCa?: string;
  readonly tlsServerName?: string;
  readonly plaintext?: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

interface TlsFiles {
  readonly "--tls-cert": string;
  readonly "--tls-key": string;
  readonly "--tls-ca": string;
}

/** A file, and the option that names it. */
interface NamedFile {
  readonly name: string;
  readonly bytes: Buffer;
}

/**
 * Flags go before the environment, and `--plaintext` before certificates in the environment.
 *
 * @throws {FleetError} USAGE, CERTIFICATE_INVALID
 */
export function openTransport(options: TransportOptions, env: Environment): Transport {
  const { tlsCert, tlsKey, tlsCa, tlsServerName } = options;
  if (options.plaintext) {
    if (!tlsCert && !tlsKey && !tlsCa) return PLAINTEXT_ANYWHERE;
    throw new FleetError("USAGE", "--plaintext does not go with --tls-cert, --tls-key, --tls-ca");
  }
  const files: TlsFiles = {
    "--tls-cert": tlsCert || env["SIMCLR_TLS_CERT"] || "",
    "--tls-key": tlsKey || env["SIMCLR_TLS_KEY"] || "",
    "--tls-ca": tlsCa || env["SIMCLR_TLS_CA"] || "",
  };
  const missing = Object.entries(files).flatMap(([option, file]) => (file ? [] : [option]));
  if (missing.length === 0) {
    return tlsTransport(readIdentity(files), tlsServerName || env["SIMCLR_TLS_SERVER_NAME"]);
  }
  if (missing.length < 3 || tlsServerName) {
    throw new FleetError("USAGE", `TLS is mutual here: it needs ${missing.join(" and ")}, too`);
  }
  return PLAINTEXT;
}

function readIdentity(files: TlsFiles): TlsIdentity {
  const [cert, key, ca] = [
    readNamed("--tls-cert", files["--tls-cert"]),
    readNamed("--tls-key", files["--tls-key"]),
    readNamed("--tls-ca", files["--tls-ca"]),
  ];
  const [own, ...between] = parseCertificates(cert);
  const authorities = parseCertificates(ca);
  if (!own.checkPrivateKey(parseKey(key))) {
    throw invalid(key, `is not the key of the certificate in ${cert.name}`);
  }
  const problem = lifetimeProblem(own);
  if (problem) throw invalid(cert, problem);
  checkIssuer(own, between, authorities, { cert, ca });
  return { certificate: cert.bytes, key: key.bytes, ca: ca.bytes };
}

function readNamed(option: keyof TlsFiles, file: string): NamedFile {
  const name = `${option} ${file}`;
  try {
    return { name, bytes: readFileSync(file) };
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "it cannot be read";
    const why = code === "ENOENT" ? "no such file" : code;
    throw new FleetError("CERTIFICATE_INVALID", `${name}: ${why}`, { file }, cause);
  }
}

function parseCertificates(file: NamedFile): [X509Certificate, ...X509Certificate[]] {
  const pattern = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;
  const blocks = file.bytes.toString("latin1").match(pattern) ?? [];
  try {
    const [first, ...rest] = blocks.map((block) => new X509Certificate(block));
    if (first) return [first, ...rest];
  } catch (cause) {
    throw invalid(file, "holds a damaged certificate", cause);
  }
  throw invalid(file, "holds no PEM certificate");
}

function parseKey(file: NamedFile): KeyObject {
  try {
    return createPrivateKey(file.bytes);
  } catch (cause) {
    throw invalid(file, "holds no PEM private key, or an encrypted one", cause);
  }
}

/** Climbs from the process's own certificate to one of the CA's. */
function checkIssuer(
  own: X509Certificate,
  between: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
  { cert, ca }: { readonly cert: NamedFile; readonly ca: NamedFile },
): void {
  let last = own;
  const rest = [...between];
  for (;;) {
    const issuers = authorities.filter((authority) => isIssuer(authority, last));
    const problems = issuers.map(lifetimeProblem);
    if (problems.some((problem) => problem === undefined)) return;
    if (problems[0]) throw invalid(ca, problems[0]);

    const step = rest.findIndex((one) => isIssuer(one, last));
    const [next] = step < 0 ? [] : rest.splice(step, 1);
    if (!next) throw invalid(cert, `was not issued by the CA in ${ca.name}`);
    const problem = lifetimeProblem(next);
    if (problem) throw invalid(cert, problem);
    last = next;
  }
}

function isIssuer(issuer: X509Certificate, of: X509Certificate): boolean {
  return of.checkIssued(issuer) && of.verify(issuer.publicKey);
}

function lifetimeProblem({ subject, validFrom, validTo }: X509Certificate): string | undefined {
  const who = `holds a certificate of ${subject.replaceAll("\n", ", ")} that`;
  if (Date.now() > Date.parse(validTo)) return `${who} expired on ${validTo}`;
  if (Date.now() < Date.parse(validFrom)) return `${who} is valid only from ${validFrom}`;
  return undefined;
}

function invalid({ name }: NamedFile, problem: string, cause?: unknown): FleetError {
  return new FleetError("CERTIFICATE_INVALID", `${name} ${problem}`, {}, cause);
}
