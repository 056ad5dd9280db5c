/** Waits for a condition that no event announces. */

const PAUSE_MS = 20;

/**
 * Asks until `condition` gives a value that counts as true, and gives that.
 *
 * @throws when it never does within `deadlineMs`, naming `what`
 */
export async function until<Value>(
  what: string,
  condition: () => Value | Promise<Value>,
  deadlineMs = 10_000,
): Promise<NonNullable<Value>> {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > deadline) throw new Error(`waited ${deadlineMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
