/** The page's API over real HTTP: what it shows, and who may change something. */

import assert from "node:assert/strict";
import type { FleetChange, FleetSnapshot } from "../../coordinator/http/fleet-changes.ts";
import type { ExperimentDetail, FleetView } from "../../coordinator/http/fleet-view.ts";
import { until } from "../support/until.ts";
import { CoordinatorRig, useRedis, useRig } from "./coordinator-rig.ts";

const TOKEN = "open sesame";
const STREAMS = 4;

describe("the HTTP API", function () {
  this.timeout(20_000);
  const rig = useRig({
    coordinator: {
      operatorToken: TOKEN,
      httpLimits: {
        streams: { perPeer: STREAMS, total: STREAMS },
        wrongTokens: { burst: 3, perSecond: 0.001 },
        sessions: 2,
      },
    },
  });

  const address = (): string => `http://127.0.0.1:${rig().coordinator.httpPort}`;
  const get = (path: string, headers: Record<string, string> = {}): Promise<Response> =>
    fetch(`${address()}${path}`, { headers, redirect: "manual" });
  const json = async <Answer>(path: string): Promise<Answer> =>
    (await (await get(path)).json()) as Answer;
  const post = (
    path: string,
    { body = {}, ...headers }: Record<string, unknown> = {},
  ): Promise<Response> =>
    fetch(`${address()}${path}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...(headers as Record<string, string>) },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
  const bearer = { authorization: `Bearer ${TOKEN}` };
  const login = (token: unknown): Promise<Response> =>
    post("/api/login", { body: { token }, "sec-fetch-site": "same-origin" });
  const cookieOf = (response: Response): string =>
    response.headers.get("set-cookie")?.split(";")[0] ?? "";
  const outcome = async (response: Response): Promise<readonly [number, string]> => {
    const { error } = (await response.json()) as { readonly error?: { readonly code: string } };
    return [response.status, error?.code ?? ""];
  };

  it("shows the fleet, and everything about one experiment", async () => {
    const worker = await rig().join("w0");
    const id = await rig().submit({ pretrain: 1, linear: 1 }, { name: "mine" });
    await worker.accept();
    for (const step of [1, 2]) worker.progress(step, { loss: 4 - step, lr: 0.25, lossBound: 4.5 });
    await until("two points", async () => {
      const { curves } = await json<ExperimentDetail>(`/api/experiments/${id}`);
      return curves.pretrain?.training.length === 2;
    });
    const fleet = await json<FleetView>("/api/fleet");
    assert.deepEqual(
      fleet.experiments.map(({ name, state }) => [name, state]),
      [["mine", "running"]],
    );
    assert.deepEqual(
      fleet.workers.map(({ name, state, rank }) => [name, state, rank]),
      [["w0-name", "busy", 0]],
    );
    assert.deepEqual(fleet.problems, []);
    assert.equal(fleet.queue?.["waiting-children"], 1);
    const detail = await json<ExperimentDetail>(`/api/experiments/${id}`);
    assert.deepEqual(detail.curves.pretrain, {
      training: [
        { step: 1, loss: 3, lr: 0.25 },
        { step: 2, loss: 2, lr: 0.25 },
      ],
      quality: [],
      lossBound: 4.5,
    });
    assert.equal((detail.recipe as { readonly name: string }).name, "demo");
    assert.deepEqual(
      detail.timeline.map(({ type }) => type),
      ["submitted", "state", "state"],
    );
  });

  it("keeps the curves when another coordinator takes over", async () => {
    const worker = await rig().join("w0");
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    await worker.accept();
    worker.progress(7, { loss: 3.5 });
    await rig().untilState(id, "running");
    await rig().restart();
    const { curves } = await json<ExperimentDetail>(`/api/experiments/${id}`);
    assert.deepEqual(
      curves.pretrain?.training.map(({ step, loss }) => [step, loss]),
      [[7, 3.5]],
    );
  });

  it("answers what it cannot with JSON", async () => {
    for (const path of ["/api/experiments/none", "/api/nothing", "/api/experiments/none/logs"]) {
      assert.deepEqual(await outcome(await get(path)), [404, "NOT_FOUND"], path);
    }
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    for (const query of ["rank=-1", "rank=x", "level=loud", "last=0", "last=1001", "what=1"]) {
      const response = await get(`/api/experiments/${id}/logs?${query}`);
      assert.deepEqual(await outcome(response), [400, "USAGE"], query);
    }
    assert.deepEqual(await outcome(await get("/api/experiments/%E0%A4%A")), [400, "USAGE"]);
    assert.deepEqual(await outcome(await login(7)), [400, "USAGE"]);
    const large = { token: "x".repeat(10_000) };
    assert.deepEqual(await outcome(await post("/api/login", { body: large })), [400, "USAGE"]);
    assert.deepEqual(await outcome(await post("/api/login", { body: "{" })), [400, "USAGE"]);
    assert.equal((await fetch(`${address()}/`, { method: "DELETE" })).status, 405);
    assert.equal((await get("/nothing.html")).status, 404);
    assert.equal((await get("/../../package.json")).status, 404);
    assert.equal((await get("/%2e%2e/main.js")).status, 404);
  });

  it("lets browsers load nothing from elsewhere, and nobody frame it", async () => {
    const { headers } = await get("/");
    const policy = headers.get("content-security-policy") ?? "";
    assert.match(policy, /default-src 'self'/);
    assert.match(policy, /frame-ancestors 'none'/);
    assert.doesNotMatch(policy, /unsafe/);
    assert.equal(headers.get("x-content-type-options"), "nosniff");
    assert.equal(headers.get("x-powered-by"), null);
  });

  it("changes an experiment for whoever shows the token, as commands do", async () => {
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    const act = (verb: string, headers = {}): Promise<Response> =>
      post(`/api/experiments/${id}/${verb}`, headers);
    assert.deepEqual(await outcome(await act("cancel")), [401, "JOIN_REFUSED"]);
    assert.deepEqual(await outcome(await act("retry", bearer)), [409, "STATE_CONFLICT"]);
    for (const [verb, state] of [
      ["pause", "paused"],
      ["resume", "waiting"],
      ["cancel", "cancelled"],
      ["retry", "waiting"],
    ] as const) {
      const response = await act(verb, bearer);
      const { state: told } = (await response.json()) as { readonly state: string };
      assert.deepEqual([response.status, told], [200, state]);
      await rig().untilState(id, state);
    }
    const unknown = await post("/api/experiments/none/cancel", bearer);
    assert.deepEqual(await outcome(unknown), [404, "NOT_FOUND"]);
    assert.equal((await act("explode", bearer)).status, 404);
  });

  it("gives a cookie for the token, which ends with the sign-out", async () => {
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    const response = await login(TOKEN);
    assert.match(response.headers.get("set-cookie") ?? "", /HttpOnly; SameSite=Strict/);
    const cookie = cookieOf(response);
    const access = async (): Promise<string> =>
      ((await (await get("/api/session", { cookie })).json()) as { access: string }).access;
    assert.equal(await access(), "signed-in");
    const own = { cookie, "sec-fetch-site": "same-origin" };
    assert.equal((await post(`/api/experiments/${id}/pause`, own)).status, 200);
    await post("/api/logout", own);
    assert.equal(await access(), "signed-out");
    const late = await post(`/api/experiments/${id}/resume`, own);
    assert.deepEqual(await outcome(late), [401, "JOIN_REFUSED"]);
  });

  it("signs the oldest out when there are too many", async () => {
    const cookies = [];
    for (let count = 0; count < 3; count++) cookies.push(cookieOf(await login(TOKEN)));
    const status = async (cookie = ""): Promise<number> =>
      (await get("/queues", { cookie })).status;
    assert.deepEqual(await Promise.all(cookies.map(status)), [401, 200, 200]);
  });

  it("does nothing for a page of another site, cookie or not", async () => {
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    const cookie = cookieOf(await login(TOKEN));
    const host = `127.0.0.1:${rig().coordinator.httpPort}`;
    for (const headers of [
      { cookie, "sec-fetch-site": "cross-site" },
      { cookie, "sec-fetch-site": "same-site" },
      { cookie, origin: "http://evil.example" },
      { cookie, origin: "null" },
      { cookie },
    ]) {
      const response = await post(`/api/experiments/${id}/pause`, headers);
      assert.deepEqual(await outcome(response), [403, "USAGE"]);
    }
    assert.equal(await rig().refused("cross-site"), 5);
    const own = { cookie, origin: `http://${host}` };
    assert.equal((await post(`/api/experiments/${id}/pause`, own)).status, 200);
  });

  it("hears no token at all after a few wrong ones, and tells neither", async () => {
    for (let attempt = 0; attempt < 3; attempt++) {
      assert.deepEqual(await outcome(await login("guess")), [401, "JOIN_REFUSED"]);
    }
    assert.deepEqual(await outcome(await login("guess")), [429, "OVERLOADED"]);
    assert.deepEqual(await outcome(await login(TOKEN)), [429, "OVERLOADED"]);
    const id = await rig().submit({ pretrain: 1, linear: 1 });
    const response = await post(`/api/experiments/${id}/pause`, bearer);
    const text = await response.text();
    assert.equal(response.status, 429);
    assert.ok(!text.includes(TOKEN) && !text.includes("guess"));
    assert.equal(await rig().refused("operator-token"), 3);
  });

  it("shows Bull Board to whoever is signed in, and changes no job for anybody", async () => {
    await rig().submit({ pretrain: 1, linear: 1 });
    assert.equal((await get("/queues/api/queues")).status, 401);
    const { status, headers } = await get("/queues", { accept: "text/html" });
    assert.deepEqual([status, headers.get("location")], [303, "/#/sign-in?next=/queues"]);
    const page = await (await get("/queues", bearer)).text();
    assert.match(page, /static\/js\/main/);
    assert.doesNotMatch(page, /https?:\/\//);
    const { queues } = (await (await get("/queues/api/queues", bearer)).json()) as {
      readonly queues: readonly { readonly name: string; readonly readOnlyMode: boolean }[];
    };
    assert.deepEqual(
      queues.map(({ name, readOnlyMode }) => [name, readOnlyMode]),
      [["stages", true]],
    );
    const response = await fetch(`${address()}/queues/api/queues/stages/pause`, {
      method: "PUT",
      headers: bearer,
    });
    assert.equal(response.status, 405);
  });

  describe("stream", () => {
    it("begins with the whole fleet, then tells what changes, gathered by the moment", async () => {
      const worker = await rig().join("w0");
      const id = await rig().submit({ pretrain: 1, linear: 1 });
      const events = openEvents(`${address()}/api/stream?experiment=${id}`);
      const first = (await events.next("snapshot")) as FleetSnapshot;
      assert.deepEqual(
        first.fleet.experiments.map((one) => one.id),
        [id],
      );
      assert.equal(first.detail?.experiment.id, id);

      await worker.accept();
      for (let step = 1; step <= 30; step++) worker.progress(step);
      const steps: number[] = [];
      while (steps.at(-1) !== 30) {
        const { experiments, detail } = (await events.next("change")) as FleetChange;
        const step = experiments?.[0]?.progress?.step;
        if (step === undefined) continue;
        steps.push(step);
        assert.equal(detail?.curves?.pretrain?.training?.points.at(-1)?.step, step);
      }
      assert.ok(steps.length < 10, `${steps.length} events for 30 reports`);
      events.close();

      const again = openEvents(`${address()}/api/stream`);
      const { fleet, detail } = (await again.next("snapshot")) as FleetSnapshot;
      assert.equal(fleet.experiments[0]?.progress?.step, 30);
      assert.equal(detail, undefined);
      again.close();
    });

    it("tells that there is no such experiment", async () => {
      const events = openEvents(`${address()}/api/stream?experiment=none`);
      assert.equal(((await events.next("snapshot")) as FleetSnapshot).detail, null);
      events.close();
    });

    it("has a largest number of readers", async () => {
      const streams = Array.from({ length: STREAMS }, () => openEvents(`${address()}/api/stream`));
      await Promise.all(streams.map((stream) => stream.next("snapshot")));
      assert.deepEqual(await outcome(await get("/api/stream")), [429, "OVERLOADED"]);
      for (const stream of streams) stream.close();
      await until("a place", async () => {
        const stream = openEvents(`${address()}/api/stream`);
        const found = await stream.next("snapshot").catch(() => undefined);
        stream.close();
        return found;
      });
    });
  });
});

describe("the HTTP API without an operator token", function () {
  this.timeout(20_000);
  const redis = useRedis();

  it("shows, and changes nothing, also while it stands by", async () => {
    const first = await CoordinatorRig.open(redis());
    const second = await CoordinatorRig.open(redis(), { prefix: first.prefix });
    const at = (rig: CoordinatorRig, path: string): string =>
      `http://127.0.0.1:${rig.coordinator.httpPort}${path}`;
    const id = await first.submit({ pretrain: 1, linear: 1 });
    const session = await (await fetch(at(first, "/api/session"))).json();
    assert.deepEqual(session, { access: "read-only" });
    for (const headers of [{}, { authorization: "Bearer " }, { authorization: "Bearer x" }]) {
      const path = at(first, `/api/experiments/${id}/cancel`);
      const response = await fetch(path, { method: "POST", headers });
      assert.equal(response.status, 403);
      assert.match(await response.text(), /SIMCLR_OPERATOR_TOKEN/);
    }
    assert.equal((await fetch(at(first, "/queues"))).status, 403);
    const { problems } = (await (await fetch(at(second, "/api/fleet"))).json()) as FleetView;
    assert.match(problems.join(), /stands by for the coordinator at 127\.0\.0\.1:/);
    await second.close();
    await first.close();
  });
});

interface Events {
  /** The data of the next event of that name. */
  next(event: string): Promise<object>;
  close(): void;
}

/** Reads server-sent events, as a browser does. */
function openEvents(url: string): Events {
  const ended = new AbortController();
  const read = async function* (): AsyncGenerator<readonly [string, object]> {
    const response = await fetch(url, { signal: ended.signal });
    assert.equal(response.headers.get("content-type"), "text/event-stream");
    assert.ok(response.body);
    let text = "";
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      const blocks = `${text}${chunk}`.split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const event = /^event: (.*)$/m.exec(block)?.[1];
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (event && data) yield [event, JSON.parse(data) as object];
      }
    }
  };
  const events = read();
  return {
    async next(wanted) {
      for (;;) {
        const { value, done } = await events.next();
        assert.ok(!done, `the stream ended before ${wanted}`);
        if (value[0] === wanted) return value[1];
      }
    },
    close: () => ended.abort(),
  };
}
