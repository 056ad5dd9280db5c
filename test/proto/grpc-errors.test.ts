import assert from "node:assert/strict";
import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { ERROR_SPECS, type ErrorCode, FleetError } from "../../proto/errors.ts";
import { fromServiceError, toServiceError } from "../../proto/grpc-errors.ts";
import { TEXT_LENGTH_MAX } from "../../proto/limits.ts";

function failure(code: status, details = "words"): ServiceError {
  return Object.assign(new Error(details), { code, details, metadata: new Metadata() });
}

describe("error on the wire", () => {
  for (const code of Object.keys(ERROR_SPECS) as ErrorCode[]) {
    it(`keeps the code ${code}, its message and its detail`, () => {
      const sent = new FleetError(code, `größer: ${code}`, { rank: 3, file: "a b.jpg" });
      const received = fromServiceError(toServiceError(sent), "host:1");
      assert.deepEqual(received.toPlain(), sent.toPlain());
      assert.equal(toServiceError(sent).code, ERROR_SPECS[code].grpc);
    });
  }

  it("cuts a long message and leaves out a long detail", () => {
    const sent = new FleetError("USAGE", "x".repeat(9_999), { file: "y".repeat(9_999) });
    const received = fromServiceError(toServiceError(sent), "host:1");
    assert.equal(received.message.length, TEXT_LENGTH_MAX);
    assert.deepEqual(received.detail, {});
  });

  it("means that nobody answers when the call got nowhere", () => {
    for (const code of [status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.CANCELLED]) {
      const error = fromServiceError(failure(code), "10.0.0.1:50051");
      assert.equal(error.code, "COORDINATOR_UNREACHABLE");
      assert.match(error.message, /10\.0\.0\.1:50051/);
    }
  });

  it("means another version when the server does not know the call", () => {
    const error = fromServiceError(failure(status.UNIMPLEMENTED), "host:1");
    assert.equal(error.code, "VERSION_MISMATCH");
  });

  it("tells who does not trust whom when a handshake fails", () => {
    const checked = (lastError: string): FleetError => {
      const details = `No connection established. Last error: ${lastError}. Resolution note: `;
      return fromServiceError(failure(status.UNAVAILABLE, details), "host:1");
    };
    for (const [lastError, message] of [
      [
        "80:error:0A:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:../x.c:1",
        "does not accept the certificate shown to it (certificate required)",
      ],
      [
        "Error: certificate has expired",
        "has a certificate that is not accepted here (certificate has expired)",
      ],
    ] as const) {
      const { code, message: told } = checked(lastError);
      assert.deepEqual([code, told], ["TLS_REFUSED", `the server at host:1 ${message}`]);
    }
    assert.equal(checked("Error: connect ECONNREFUSED").code, "COORDINATOR_UNREACHABLE");
  });

  it("is unexpected when it is anything else", () => {
    const error = fromServiceError(failure(status.INTERNAL, "boom"), "host:1");
    assert.equal(error.code, "UNEXPECTED");
    assert.match(error.message, /boom/);
  });
});
