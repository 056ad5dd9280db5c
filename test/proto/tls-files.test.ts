import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import type { ErrorCode, FleetError } from "../../proto/errors.ts";
import { openTransport, type TransportOptions } from "../../proto/tls-files.ts";
import { tlsFile } from "../support/certificates.ts";
import { tempDir } from "../support/processes.ts";

const MEMBER = { tlsCert: tlsFile("member.pem"), tlsKey: tlsFile("member.key") };
const GOOD = { ...MEMBER, tlsCa: tlsFile("ca.pem") };

function refuses(options: TransportOptions, code: ErrorCode, message: RegExp): void {
  assert.throws(
    () => openTransport(options, {}),
    (error: FleetError) => {
      assert.equal(error.code, code, error.message);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /\n|BEGIN|PRIVATE KEY-/);
      return true;
    },
  );
}

describe("the options of TLS", () => {
  it("take all three files, by flag or from the environment, flags first", () => {
    assert.equal(openTransport(GOOD, {}).security, "tls");
    const env = {
      SIMCLR_TLS_CERT: "no such file",
      SIMCLR_TLS_KEY: GOOD.tlsKey,
      SIMCLR_TLS_CA: GOOD.tlsCa,
      SIMCLR_TLS_SERVER_NAME: "fleet.internal",
    };
    const transport = openTransport({ tlsCert: GOOD.tlsCert }, env);
    assert.equal(transport.security, "tls");
    assert.deepEqual(Object.values(transport.clientOptions), ["fleet.internal"]);
    assert.equal(openTransport({ plaintext: true }, env).security, "plaintext");
  });

  it("leave plain text on loopback without any of them, and anywhere on demand", () => {
    assert.equal(openTransport({}, {}).reach, "loopback");
    assert.equal(openTransport({ plaintext: true }, {}).reach, "anywhere");
  });

  it("are refused in part, and beside --plaintext", () => {
    refuses(MEMBER, "USAGE", /it needs --tls-ca, too/);
    refuses({ tlsCa: GOOD.tlsCa }, "USAGE", /it needs --tls-cert and --tls-key, too/);
    refuses({ tlsServerName: "a" }, "USAGE", /--tls-cert and --tls-key and --tls-ca/);
    refuses({ ...GOOD, plaintext: true }, "USAGE", /--plaintext does not go with/);
  });

  it("accept a CA that stands beside another one", () => {
    assert.equal(openTransport({ ...GOOD, tlsCa: tlsFile("both-cas.pem") }, {}).security, "tls");
  });
});

describe("a file of TLS is refused, by name, when", () => {
  const invalid = (options: TransportOptions, message: RegExp): void =>
    refuses({ ...GOOD, ...options }, "CERTIFICATE_INVALID", message);

  it("it is missing, or no file", () => {
    invalid({ tlsCert: "absent.pem" }, /^--tls-cert absent\.pem: no such file$/);
    invalid({ tlsKey: "absent.key" }, /^--tls-key absent\.key: no such file$/);
    invalid({ tlsCa: path.dirname(GOOD.tlsCa) }, /^--tls-ca .*tls: EISDIR$/);
  });

  it("it holds something else", async () => {
    const { dir, remove } = await tempDir();
    const damaged = path.join(dir, "damaged.pem");
    await writeFile(damaged, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    invalid({ tlsCert: GOOD.tlsKey }, /^--tls-cert .*member\.key holds no PEM certificate$/);
    invalid({ tlsKey: GOOD.tlsCert }, /^--tls-key .*member\.pem holds no PEM private key/);
    invalid({ tlsCa: GOOD.tlsKey }, /^--tls-ca .*member\.key holds no PEM certificate$/);
    invalid({ tlsCert: damaged }, /^--tls-cert .*damaged\.pem holds a damaged certificate$/);
    await remove();
  });

  it("the key is another certificate's", () =>
    invalid(
      { tlsKey: tlsFile("stranger.key") },
      /^--tls-key .*stranger\.key is not the key of the certificate in --tls-cert .*member\.pem$/,
    ));

  it("the certificate is of another CA", () =>
    invalid(
      { tlsCert: tlsFile("stranger.pem"), tlsKey: tlsFile("stranger.key") },
      /^--tls-cert .*stranger\.pem was not issued by the CA in --tls-ca .*[/]ca\.pem$/,
    ));

  it("the certificate has expired", () =>
    invalid(
      { tlsCert: tlsFile("expired.pem"), tlsKey: tlsFile("expired.key") },
      /^--tls-cert .*expired\.pem holds a certificate of CN=.* expired on Feb .* 2020 GMT$/,
    ));
});
