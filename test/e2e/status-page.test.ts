import assert from "node:assert/strict";
import type { Browser, Page } from "playwright-core";
import { accessibilityFaults, openBrowser, overflowOf, watchFaults } from "../support/browser.ts";
import { tinyRecipe, untilExperiment, useCluster } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const TOKEN = "open sesame";
const PATIENCE_MS = 60_000;

/** One story, told from test to test: each goes on where the one before has left the page. */
describe("the status page", function () {
  this.timeout(180_000);
  const suite = useCluster({
    images: { train: 30, val: 2 },
    workers: 3,
    env: { SIMCLR_OPERATOR_TOKEN: TOKEN },
  });
  let browser: Browser;
  let page: Page;
  let faults: readonly string[];
  let id = "";

  before(async () => {
    browser = await openBrowser();
    page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    page.setDefaultTimeout(PATIENCE_MS);
    faults = watchFaults(page, suite.cluster.http);
  });
  after(() => browser?.close());

  /** What a reader of the page hears of how many points the loss has. */
  const points = async (): Promise<number> => {
    const summary = page.locator("summary", { hasText: "of Loss" });
    return Number.parseInt((await summary.textContent()) ?? "", 10);
  };
  const timeline = (text: string) => page.locator(".timeline li", { hasText: text }).first();
  /** Goes on with the Tab key until this has the focus. */
  const tabTo = async (name: string): Promise<void> => {
    for (let presses = 0; presses < 60; presses++) {
      await page.keyboard.press("Tab");
      const focused = await page.evaluate("document.activeElement?.textContent?.trim()");
      if (focused === name) return;
    }
    assert.fail(`${name} cannot be reached by keyboard`);
  };
  /** In light and dark, wide and narrow: no fault, and nothing beyond the window's edge. */
  const assertAccessible = async (view: string): Promise<void> => {
    for (const colorScheme of ["light", "dark"] as const) {
      for (const width of [1280, 360]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 900 });
        const where = `${view}, ${colorScheme}, ${width} px`;
        assert.deepEqual(await accessibilityFaults(page), [], where);
        await until(`${where}: no overflow`, async () => (await overflowOf(page)) === 0, 2_000);
      }
    }
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize({ width: 1280, height: 900 });
  };

  it("says what to do while there is nothing, and shows workers", async () => {
    await page.goto(suite.cluster.http);
    await page.getByText("No experiments yet.").waitFor();
    await page.getByText("npx coordinator submit").waitFor();
    const workers = page.getByRole("table", { name: "Workers" });
    await until("three workers", async () => (await workers.getByText("idle").count()) === 3);
    await assertAccessible("empty fleet");
  });

  it("shows an experiment that is submitted, without being loaded again", async () => {
    await page.evaluate("globalThis.isSamePage = true");
    id = await suite.submit(
      tinyRecipe(suite.data, {
        stages: ["pretrain"],
        pretrain: {
          workers: 2,
          batchPerWorker: 2,
          epochs: 2_000,
          optimizer: { type: "lars", lr: 0.3 },
          checkpoint: { everyEpochs: 2_000 },
        },
      }),
    );
    const row = page.getByRole("row", { name: new RegExp(id) }).first();
    await row.getByText("running").waitFor();
    await row.getByRole("progressbar").waitFor();
    assert.equal(await page.evaluate("globalThis.isSamePage"), true);
    await assertAccessible("fleet at work");
  });

  it("draws the curves as they grow", async () => {
    await page.getByRole("link", { name: id }).first().click();
    await page.getByRole("heading", { name: id }).waitFor();
    await page.locator("canvas").first().waitFor();
    const first = await until("points", points);
    await until("more points", async () => (await points()) > first + 2, PATIENCE_MS);
    const table = page.getByRole("table", { name: /^Loss, newest/, includeHidden: true });
    assert.ok((await table.locator("tbody tr").count()) > 2);
    const gang = page.getByRole("table", { name: "Gang" });
    await until("its two workers", async () => (await gang.getByText("busy").count()) === 2);
    await assertAccessible("experiment");
  });

  it("tells of a worker that is killed, and of the gang that goes on", async () => {
    const { cluster } = suite;
    const { workers } = await untilExperiment(cluster, id, () => true, PATIENCE_MS);
    const members = await cluster.json<readonly { id: string; name: string }[]>("workers");
    const { name = "" } = members.find((one) => one.id === workers[1]) ?? {};
    const victim = cluster.workers.find(({ pid }) => name.endsWith(`:${pid}`));
    assert.ok(victim);
    await victim.end("SIGKILL");
    await timeline("worker lost").waitFor();
    await timeline("goes on with step").waitFor();
    const before = await points();
    await until("more points", async () => (await points()) > before + 1, PATIENCE_MS);
    await page.getByRole("link", { name: "Fleet", exact: true }).click();
    const table = page.getByRole("table", { name: "Workers" });
    await table.getByRole("row", { name }).getByText("lost").waitFor();
  });

  it("shows the logs of a rank", async () => {
    await page.getByRole("link", { name: id }).first().click();
    const log = page.getByRole("region", { name: "Lines of the log" });
    await log.getByText("rank 0").first().waitFor();
    await page.getByLabel("Rank").selectOption("1");
    const others = log.getByText("rank 0", { exact: true });
    await until("those of others to go", async () => (await others.count()) === 0);
    await log.getByText("rank 1").first().waitFor();
    assert.equal(await others.count(), 0);
  });

  it("lets nobody in with another token", async () => {
    assert.equal(await page.getByRole("button", { name: "Cancel" }).count(), 0);
    await page.getByRole("link", { name: "Sign in" }).click();
    await assertAccessible("sign-in");
    await page.getByLabel("Operator token").fill("something else");
    await page.keyboard.press("Enter");
    await page.getByText("the operator token is not this coordinator's").waitFor();
  });

  it("cancels an experiment, by keyboard alone", async () => {
    await page.getByLabel("Operator token").fill(TOKEN);
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Sign out" }).waitFor();
    await tabTo(id);
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Cancel" }).waitFor();
    await tabTo("Cancel");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog", { name: `Cancel ${id}?` }).waitFor();
    await assertAccessible("confirmation");
    await tabTo("Cancel it");
    await page.keyboard.press("Enter");
    await timeline("cancelled by an operator").waitFor();
    await page.locator(".state .badge", { hasText: "cancelled" }).waitFor();
    await untilExperiment(suite.cluster, id, ({ state }) => state === "cancelled", PATIENCE_MS);
    await page.getByRole("button", { name: "Retry" }).waitFor();
  });

  it("has Bull Board behind the same token", async () => {
    const url = `${suite.cluster.http}/queues`;
    await page.goto(url);
    await page.getByText("stages").first().waitFor();
    const stranger = await browser.newContext();
    const other = await stranger.newPage();
    await other.goto(url);
    await other.getByRole("heading", { name: "Sign in" }).waitFor();
    await stranger.close();
    assert.equal((await fetch(`${url}/api/queues`)).status, 401);
  });

  it("had no errors, and asked nobody else for anything", () => {
    // That the wrong token was refused is an error to the browser.
    assert.deepEqual(
      faults.filter((fault) => !/status of 401 .*\/api\/login$/.test(fault)),
      [],
    );
  });

  it("says when the coordinator is away", async () => {
    await page.goto(suite.cluster.http);
    await page.getByRole("heading", { name: "Fleet" }).waitFor();
    await suite.cluster.coordinator.end();
    await page.getByText("The coordinator does not answer.").waitFor();
    assert.deepEqual(await accessibilityFaults(page), []);
  });
});
