/** /api: what the page shows, for scripts, too. It changes nothing but through operators' verbs. */

import { json, type Request, Router } from "express";
import { FleetError } from "../../proto/errors.ts";
import { type ChangeMeans, changeExperiment } from "../control/change-experiment.ts";
import type { OperatorVerb } from "../experiment/experiment.ts";
import type { Store } from "../store/store.ts";
import type { Moment } from "./fleet-changes.ts";
import type { FleetStream } from "./fleet-stream.ts";
import { type FleetSource, toDetail, toExperimentView, toFleetView } from "./fleet-view.ts";
import { BODY_BYTES_MAX } from "./http-limits.ts";
import { readLogs } from "./log-routes.ts";
import type { Access, OperatorDoor } from "./operator-door.ts";

/** What can be asked of an experiment over HTTP. */
export const VERBS = [
  "cancel",
  "pause",
  "resume",
  "retry",
] as const satisfies readonly OperatorVerb[];

/** GET /api/session. */
export interface SessionView {
  readonly access: Access;
}

export interface ApiOptions extends ChangeMeans {
  readonly scheduler: FleetSource & ChangeMeans["scheduler"];
  readonly store: ChangeMeans["store"] & Pick<Store, "logs">;
  readonly moment: () => Promise<Moment>;
  readonly stream: FleetStream;
  readonly door: OperatorDoor;
  /** Throws unless this coordinator leads. */
  readonly checkLeading: () => void;
}

export function apiRoutes(options: ApiOptions): Router {
  const { scheduler, moment, stream, door } = options;
  const { logs } = options.store;
  const routes = Router();
  routes.use((_, response, next) => {
    response.set("Cache-Control", "no-store");
    next();
  });
  routes.get("/fleet", async (_, response) => {
    response.json(toFleetView(scheduler, await moment()));
  });
  routes.get("/stream", stream.open);
  routes.get("/experiments/:id", ({ params: { id } }, response) => {
    response.json(toDetail(scheduler, id));
  });
  routes.get("/experiments/:id/logs", readLogs(scheduler, logs));
  routes.get("/session", (request, response) => {
    response.json({ access: door.access(request) } satisfies SessionView);
  });
  addActions(routes, options);
  routes.use(({ method, baseUrl, path }) => {
    throw new FleetError("NOT_FOUND", `there is no ${method} ${baseUrl}${path}`);
  });
  return routes;
}

function addActions(routes: Router, options: ApiOptions): void {
  const { scheduler, door, checkLeading } = options;
  const body = json({ limit: BODY_BYTES_MAX });
  routes.post("/login", door.ownPageOnly, body, (request, response) => {
    door.signIn(request, response);
    response.json({ access: "signed-in" } satisfies SessionView);
  });
  routes.post("/logout", door.ownPageOnly, (request, response) => {
    door.signOut(request, response);
    response.json({ access: "signed-out" } satisfies SessionView);
  });
  for (const verb of VERBS) {
    const path = `/experiments/:id/${verb}`;
    routes.post(path, door.ownPageOnly, door.guard, async (request: Request, response) => {
      const id = String(request.params["id"]);
      checkLeading();
      await changeExperiment(verb, id, options);
      response.json(toExperimentView(scheduler, scheduler.experiment(id)));
    });
  }
}
