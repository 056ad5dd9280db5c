/**
 * HTTP of the coordinator: /metrics and health checks, the status page, its API, and Bull Board.
 * Plain text. It changes nothing but through the operators' verbs.
 */

import { fileURLToPath } from "node:url";
import express, { type Express, type RequestHandler } from "express";
import { type GuardedHttp, openGuardedHttp } from "../../proto/guarded-http.ts";
import type { Log } from "../../proto/log.ts";
import type { ControlRefusals } from "../control/refusal-reasons.ts";
import type { Clock, Scheduler } from "../scheduling/scheduler.ts";
import type { Store } from "../store/store.ts";
import { apiRoutes } from "./api-routes.ts";
import { errorAnswers } from "./error-answer.ts";
import type { Moment } from "./fleet-changes.ts";
import { FleetStream } from "./fleet-stream.ts";
import type { QueueView } from "./fleet-view.ts";
import { Glance } from "./glance.ts";
import { HTTP_LIMITS, type HttpLimits } from "./http-limits.ts";
import { type MonitoringOptions, monitoringRoutes, readOnly } from "./monitoring-routes.ts";
import { OperatorDoor } from "./operator-door.ts";
import { BOARD_PATH, queueBoard } from "./queue-board.ts";
import { securityHeaders } from "./security-headers.ts";

/** What the build has made of coordinator/page/. */
const PAGE_FOLDER = fileURLToPath(new URL("../page/", import.meta.url));

export interface HttpServerOptions extends MonitoringOptions {
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
  readonly scheduler: Scheduler;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly refusals: ControlRefusals;
  /** Secret of those who may change something; empty when nobody may. */
  readonly operatorToken: string;
  /** Throws unless this coordinator leads. */
  readonly checkLeading: () => void;
  /** In place of those of {@link HTTP_LIMITS}. */
  readonly limits?: Partial<HttpLimits>;
}

/** @throws {FleetError} PORT_IN_USE, USAGE for a host that is not this machine's */
export async function openHttpServer(options: HttpServerOptions): Promise<GuardedHttp> {
  const { scheduler, refusals } = options;
  const limits = { ...HTTP_LIMITS, ...options.limits };
  const moment = momentOf(options);
  const stream = new FleetStream({ source: scheduler, moment, limits, refusals });
  const door = new OperatorDoor({ ...options, limits });
  const server = await openGuardedHttp(options, createApp(options, { moment, stream, door }));
  return {
    port: server.port,
    close: async () => {
      stream.close();
      await server.close();
    },
  };
}

function createApp(
  options: HttpServerOptions,
  parts: {
    readonly moment: () => Promise<Moment>;
    readonly stream: FleetStream;
    readonly door: OperatorDoor;
  },
): Express {
  const { door } = parts;
  const app = express();
  app.disable("x-powered-by");
  app.use(monitoringRoutes(options));
  app.use(securityHeaders);
  app.use("/api", apiRoutes({ ...options, ...parts }));
  app.use(BOARD_PATH, signInFirst(door), door.guard, queueBoard(options.store));
  app.use(readOnly, express.static(PAGE_FOLDER, { cacheControl: false, setHeaders }));
  app.use((_, response) => {
    response.status(404).type("text/plain").end("there is no such page; begin at /\n");
  });
  app.use(errorAnswers(options.log));
  return app;
}

/** Browsers ask again each time, and are told that nothing has changed. */
function setHeaders(response: { setHeader(name: string, value: string): unknown }): void {
  response.setHeader("Cache-Control", "no-cache");
}

/** Sends people to the sign-in, and leaves everything else to the door. */
function signInFirst(door: OperatorDoor): RequestHandler {
  return (request, response, next) => {
    const isPerson = request.accepts(["json", "html"]) === "html";
    if (isPerson && door.access(request) !== "signed-in") {
      return response.redirect(303, `/#/sign-in?next=${BOARD_PATH}`);
    }
    next();
  };
}

function momentOf({ store, clock, problems }: HttpServerOptions): () => Promise<Moment> {
  const queue = new Glance<QueueView>(() => store.queueDepth().catch(() => undefined), undefined);
  const state = new Glance(problems, []);
  return async () => {
    const [depth, found] = await Promise.all([queue.latest(), state.latest()]);
    const now = { monotonicMs: clock.monotonicMs(), unixMs: clock.unixMs() };
    return { now, problems: found, queue: depth };
  };
}
