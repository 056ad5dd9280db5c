/**
 * Bull Board at /queues: BullMQ's own view of the stages' jobs, for whoever is signed in. It only
 * shows: the scheduler owns the jobs, and the experiments' verbs are the way to change them.
 */

import { createBullBoard } from "@bull-board/api";
import { ExpressAdapter } from "@bull-board/express";
import { type RequestHandler, Router } from "express";
import type { Store } from "../store/store.ts";
import { readOnly } from "./monitoring-routes.ts";
import { boardPolicy } from "./security-headers.ts";

export const BOARD_PATH = "/queues";

export function queueBoard(store: Pick<Store, "queueForBoard">): Router {
  const board = new ExpressAdapter();
  board.setBasePath(BOARD_PATH);
  createBullBoard({
    queues: [store.queueForBoard()],
    serverAdapter: board,
    options: {
      uiConfig: {
        boardTitle: "simclr-fleet",
        miscLinks: [{ text: "Status page", url: "/" }],
        showDocsLink: false,
      } as object,
    },
  });
  const routes = Router();
  routes.use(readOnly, boardPolicy, withoutForeignFonts, board.getRouter() as RequestHandler);
  return routes;
}

/** Its page asks another host for fonts, which the policy would refuse with an error each time. */
const withoutForeignFonts: RequestHandler = (_, response, next) => {
  const send = response.send.bind(response);
  response.send = (body: unknown) =>
    send(typeof body === "string" ? body.replaceAll(/<link href="https?:[^>]*>/g, "") : body);
  next();
};
