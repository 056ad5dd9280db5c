/**
 * Waits for `event`, but no longer than `timeoutMs`. Leaves no timer.
 *
 * @returns what it came to; undefined when that was too late
 * @throws what it rejects with in time
 */
export async function within<Result>(
  event: Promise<Result>,
  timeoutMs: number,
): Promise<Result | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), timeoutMs);
  });
  try {
    return await Promise.race([event, late]);
  } finally {
    clearTimeout(timer);
  }
}
