/** A headless Chromium of the system, and what goes wrong in its pages. */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import axe from "axe-core";
import { type Browser, chromium, type Page } from "playwright-core";

const EXECUTABLES = ["/usr/bin/chromium", "/usr/bin/chromium-headless-shell"] as const;
/** Without a sandbox of its own, which it cannot have where tests run as root. */
const ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"];

export async function openBrowser(): Promise<Browser> {
  const executablePath = EXECUTABLES.find((file) => existsSync(file));
  assert.ok(executablePath, `install chromium: there is none of ${EXECUTABLES.join(", ")}`);
  return await chromium.launch({ executablePath, args: ARGUMENTS });
}

/**
 * Notes errors of the console, requests that fail, and requests to any other place than `home`.
 * Streams that the page itself closes are no failures.
 */
export function watchFaults(page: Page, home: string): readonly string[] {
  const faults: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error") faults.push(`${message.text()} ${message.location().url}`);
  });
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("requestfailed", (request) => {
    const isClosed = request.failure()?.errorText === "net::ERR_ABORTED";
    if (!isClosed || !request.url().includes("/api/stream")) {
      faults.push(`${request.url()}: ${request.failure()?.errorText}`);
    }
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(home) && !url.startsWith("data:")) faults.push(`asks for ${url}`);
  });
  return faults;
}

interface AxeResult {
  readonly passes: readonly object[];
  readonly violations: readonly {
    readonly id: string;
    readonly help: string;
    readonly nodes: readonly { readonly html: string; readonly failureSummary?: string }[];
  }[];
}

/** What axe has against the page as it is now. */
export async function accessibilityFaults(page: Page): Promise<readonly string[]> {
  await page.evaluate(axe.source);
  const { passes, violations } = (await page.evaluate("axe.run()")) as AxeResult;
  assert.notEqual(passes.length, 0, "axe has found something to look at");
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${help}: ${html} ${failureSummary}`),
  );
}

/** By how many pixels the page is wider than its window. */
export async function overflowOf(page: Page): Promise<number> {
  return (await page.evaluate(
    "document.documentElement.scrollWidth - document.documentElement.clientWidth",
  )) as number;
}
