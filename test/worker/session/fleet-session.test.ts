import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { Server, type ServerDuplexStream } from "@grpc/grpc-js";
import { FleetError } from "../../../proto/errors.ts";
import {
  type CoordinatorMessage,
  FleetServiceService,
  type WorkerMessage,
} from "../../../proto/gen/coordinator.ts";
import { toServiceError } from "../../../proto/grpc-errors.ts";
import { openLog } from "../../../proto/log.ts";
import { PLAINTEXT, type Transport } from "../../../proto/transport.ts";
import { FleetSession, type FleetSessionOptions } from "../../../worker/session/fleet-session.ts";
import { testTransport } from "../../support/certificates.ts";

type Call = ServerDuplexStream<WorkerMessage, CoordinatorMessage>;

/** A coordinator that does what the test says. */
async function openCoordinator(
  port: number,
  onSession: (call: Call) => void,
  { serverCredentials }: Transport = PLAINTEXT,
) {
  const server = new Server();
  server.addService(FleetServiceService, { session: onSession });
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${port}`, serverCredentials, (error, taken) =>
      error ? reject(error) : resolve(taken),
    );
  });
  return { port: bound, close: () => server.forceShutdown() };
}

function welcome(call: Call, epoch = 1): void {
  const value = { softwareVersion: "test", heartbeatIntervalMs: 20, leaseMs: 1000, epoch };
  call.write({ message: { $case: "welcome", value } });
}

describe("FleetSession", function () {
  this.timeout(20_000);
  const closing: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });

  function open(port: number, options: Partial<FleetSessionOptions> = {}): FleetSession {
    const session = new FleetSession({
      coordinators: [`127.0.0.1:${port}`],
      transport: PLAINTEXT,
      register: {
        protocolVersion: 1,
        softwareVersion: "test",
        workerId: "w1",
        name: "w1",
        peerAddress: "127.0.0.1:1",
        engine: "tfjs:wasm",
        device: "CPU",
        threads: 1,
        joinToken: "",
      },
      connectTimeoutMs: 5_000,
      reconnectTimeoutMs: 10_000,
      running: () => undefined,
      times: () => undefined,
      onAssignment: () => {},
      onAbort: () => {},
      onDismiss: () => {},
      onLost: () => {},
      log: openLog({ level: "silent", process: "test" }),
      ...options,
    });
    closing.push(() => session.close());
    return session;
  }

  it("registers first, then sends heartbeats", async () => {
    const cases: (string | undefined)[] = [];
    const heard = new Promise<void>((resolve) => {
      void openCoordinator(0, (call) => {
        welcome(call);
        call.on("data", ({ message }: WorkerMessage) => {
          cases.push(message?.$case);
          if (cases.length === 3) resolve();
        });
      }).then(({ port, close }) => {
        closing.push(close);
        open(port);
      });
    });
    await heard;
    assert.deepEqual(cases, ["register", "heartbeat", "heartbeat"]);
  });

  it("tells in its heartbeats where its time goes", async () => {
    const times = { ownStepSeconds: 1.5, dataSeconds: 0.25 };
    const told = await new Promise((resolve) => {
      void openCoordinator(0, (call) => {
        welcome(call);
        call.on("data", ({ message }: WorkerMessage) => {
          if (message?.$case === "heartbeat") resolve(message.value.times);
        });
      }).then(({ port, close }) => {
        closing.push(close);
        open(port, { times: () => times });
      });
    });
    assert.deepEqual(told, times);
  });

  it("comes back to a coordinator that was restarted, saying what it trains", async () => {
    const registered: WorkerMessage[] = [];
    const onSession = (call: Call): void => {
      call.once("data", (message: WorkerMessage) => {
        registered.push(message);
        welcome(call);
        coordinator.emit("registered");
      });
    };
    const coordinator = new EventEmitter();
    const running = {
      experimentId: "e1",
      stage: "STAGE_PRETRAIN",
      generation: 4,
      step: 9,
    } as const;
    const first = await openCoordinator(0, onSession);
    const joined = once(coordinator, "registered");
    open(first.port, { running: () => running });
    await joined;
    first.close();

    const rejoined = once(coordinator, "registered");
    const second = await openCoordinator(first.port, onSession);
    closing.push(second.close);
    await rejoined;
    const [, again] = registered.map(({ message }) => message);
    assert.ok(again?.$case === "register");
    assert.equal(again.value.workerId, "w1");
    assert.deepEqual({ ...again.value.running }, running);
  });

  it("keeps a result until the coordinator is back", async () => {
    const first = await openCoordinator(0, (call) => welcome(call));
    const session = open(first.port);
    first.close();
    const value = { experimentId: "e1", stage: "STAGE_LINEAR", generation: 1, rank: 0 } as const;
    session.send({ $case: "result", value: { ...value, resultJson: "{}" } });

    const result = await new Promise((resolve, reject) => {
      openCoordinator(first.port, (call) => {
        welcome(call);
        call.on("data", ({ message }: WorkerMessage) => {
          if (message?.$case === "result") resolve(message.value.resultJson);
        });
      }).then((second) => closing.push(second.close), reject);
    });
    assert.equal(result, "{}");
  });

  it("says how an assignment ended in every call until the next assignment", async () => {
    const results: number[] = [];
    const registered: (number | undefined)[] = [];
    const heard = new EventEmitter();
    let calls = 0;
    const { port, close } = await openCoordinator(0, (call) => {
      calls++;
      call.on("data", ({ message }: WorkerMessage) => {
        if (message?.$case === "register") {
          registered.push(message.value.running?.generation);
          welcome(call);
        }
        if (message?.$case === "result") {
          results.push(message.value.generation);
          // The first is lost with the connection; of the second the coordinator knows.
          if (calls === 1) cut(call);
          if (calls === 2) call.write({ message: { $case: "assignment", value: next } });
        }
        if (message?.$case !== "heartbeat") return;
        if (calls === 2 && isAssigned) cut(call);
        if (calls === 3) heard.emit("end");
      });
    });
    closing.push(close);
    const cut = (call: Call) =>
      call.emit("error", toServiceError(new FleetError("COORDINATOR_UNREACHABLE", "cut")));
    const next = {
      ...({ experimentId: "e1", stage: "STAGE_LINEAR", generation: 5, rank: 0 } as const),
      ...{ peers: [], recipeJson: "{}", formationTimeoutMs: 1_000 },
    };
    let isAssigned = false;
    const end = once(heard, "end");
    const session = open(port, {
      onAssignment: () => {
        isAssigned = true;
      },
    });
    const of4 = { experimentId: "e1", stage: "STAGE_LINEAR", generation: 4, rank: 0 } as const;
    session.send({ $case: "result", value: { ...of4, resultJson: "{}" } });
    await end;
    assert.deepEqual(results, [4, 4]);
    assert.deepEqual(registered, [undefined, 4, undefined]);
  });

  describe("with several coordinators", () => {
    it("passes over those that stand by or are replaced, and tells the highest epoch", async () => {
      const met: string[] = [];
      const seen: number[] = [];
      const joined = new EventEmitter();
      const openOne = async (name: string, answer: (call: Call) => void) => {
        const opened = await openCoordinator(0, (call) => {
          call.on("data", ({ message }: WorkerMessage) => {
            if (message?.$case === "heartbeat") joined.emit(`${name} heard`);
            if (message?.$case !== "register") return;
            met.push(name);
            seen.push(message.value.epochSeen);
            answer(call);
            joined.emit(name);
          });
        });
        closing.push(opened.close);
        return opened;
      };
      const refusal = new FleetError("COORDINATOR_UNREACHABLE", "stands by");
      let epoch = 3;
      const standby = await openOne("standby", (call) =>
        call.emit("error", toServiceError(refusal)),
      );
      const old = await openOne("old", (call) => welcome(call, 2));
      const leader = await openOne("leader", (call) => welcome(call, epoch));
      const first = once(joined, "leader heard");
      const coordinators = [standby, leader, old].map(({ port }) => `127.0.0.1:${port}`);
      open(0, { coordinators });
      await first;
      assert.deepEqual(met, ["standby", "leader"]);

      leader.close();
      await once(joined, "old");
      epoch = 4;
      const back = await openCoordinator(leader.port, (call) => {
        welcome(call, epoch);
        joined.emit("back");
      });
      closing.push(back.close);
      await once(joined, "back");
      assert.deepEqual(met.slice(2, 4), ["old", "standby"]);
      assert.deepEqual(seen.slice(0, 4), [0, 0, 3, 3]);
    });

    it("goes on asking while one of them may still be had", async () => {
      const refusal = new FleetError("VERSION_MISMATCH", "the coordinator speaks version 9");
      const refusing = await openCoordinator(0, (call) => {
        call.emit("error", toServiceError(refusal));
      });
      const absent = await openCoordinator(0, () => {});
      absent.close();
      const joined = new EventEmitter();
      const ports = [refusing.port, absent.port];
      open(0, { coordinators: ports.map((port) => `127.0.0.1:${port}`) });
      const late = await openCoordinator(absent.port, (call) => {
        welcome(call);
        joined.emit("late");
      });
      closing.push(refusing.close, late.close);
      await once(joined, "late");
    });
  });

  it("gives up at once when the coordinator refuses it", async () => {
    const refusal = new FleetError("VERSION_MISMATCH", "the coordinator speaks version 9");
    const { port, close } = await openCoordinator(0, (call) => {
      call.emit("error", toServiceError(refusal));
    });
    closing.push(close);
    const error = await new Promise<FleetError>((resolve) => open(port, { onLost: resolve }));
    assert.equal(error.code, "VERSION_MISMATCH");
    assert.match(error.message, /version 9/);
  });

  describe("gives up and names the coordinator when", () => {
    const refused = async (
      theirs: Transport,
      own: Transport,
      code: string,
      message: RegExp,
    ): Promise<void> => {
      const { port, close } = await openCoordinator(0, welcome, theirs);
      closing.push(close);
      const error = await new Promise<FleetError>((resolve) =>
        open(port, { transport: own, connectTimeoutMs: 300, onLost: resolve }),
      );
      assert.equal(error.code, code, error.message);
      assert.ok(error.message.includes(`127.0.0.1:${port}`), error.message);
      assert.match(error.message, message);
    };

    it("its own certificate is not accepted there", () =>
      refused(
        testTransport("member"),
        testTransport("stranger", { ca: "both-cas" }),
        "TLS_REFUSED",
        /did not accept the certificate/,
      ));
    it("it does not accept the coordinator's certificate", () =>
      refused(
        testTransport("member"),
        testTransport("stranger", { ca: "stranger-ca" }),
        "TLS_REFUSED",
        /certificate that is not accepted here \(.*certificate/,
      ));
    it("that certificate has expired", () =>
      refused(testTransport("expired"), testTransport("member"), "TLS_REFUSED", /has expired/));
    it("that certificate has another name", () =>
      refused(testTransport("named"), testTransport("member"), "TLS_REFUSED", /127\.0\.0\.1/));
    it("only the coordinator has TLS", () =>
      refused(
        testTransport("member"),
        PLAINTEXT,
        "COORDINATOR_UNREACHABLE",
        /if it has TLS, give --tls-cert/,
      ));
    it("only the worker has TLS", () =>
      refused(PLAINTEXT, testTransport("member"), "TLS_REFUSED", /in plain text, without TLS/));
  });

  it("goes by the name that it is told to expect in a certificate", async () => {
    const { port, close } = await openCoordinator(0, welcome, testTransport("named"));
    closing.push(close);
    const transport = testTransport("member", { serverName: "fleet.internal" });
    const session = open(port, { transport });
    await session.close();
  });

  it("waits for a coordinator that accepted it once and then refuses its certificate", async () => {
    const sessions = new EventEmitter();
    const onSession = (call: Call): void => {
      welcome(call);
      call.on("data", ({ message }: WorkerMessage) => {
        if (message?.$case === "heartbeat") sessions.emit("joined");
      });
    };
    const member = testTransport("member");
    const first = await openCoordinator(0, onSession, member);
    const joined = once(sessions, "joined");
    const warnings = new EventEmitter();
    const log = openLog({ level: "silent", process: "test" });
    log.warn = (fields: object) => warnings.emit((fields as { code: string }).code);
    open(first.port, { transport: member, log });
    await joined;

    const refused = once(warnings, "TLS_REFUSED");
    first.close();
    const stranger = await openCoordinator(first.port, onSession, testTransport("stranger"));
    await refused;
    const rejoined = once(sessions, "joined");
    stranger.close();
    closing.push((await openCoordinator(first.port, onSession, member)).close);
    await rejoined;
  });

  it("gives up when nobody answers in time", async () => {
    const { port, close } = await openCoordinator(0, () => {});
    close();
    const error = await new Promise<FleetError>((resolve) =>
      open(port, { connectTimeoutMs: 300, onLost: resolve }),
    );
    assert.equal(error.code, "COORDINATOR_UNREACHABLE");
    assert.ok(error.message.includes(`127.0.0.1:${port}`));
  });
});
