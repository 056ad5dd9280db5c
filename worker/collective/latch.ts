/** Something that happens once, and that can be awaited before or after. */
export class Latch {
  readonly opened: Promise<void>;
  /** Repeated calls do nothing. */
  readonly open: () => void;

  constructor() {
    let open = (): void => {};
    this.opened = new Promise((resolve) => {
      open = resolve;
    });
    this.open = open;
  }
}

/** Waits for `event`, but no longer than `timeoutMs`. Leaves no timer. */
export async function within(event: Promise<unknown>, timeoutMs: number): Promise<void> {
  const elapsed = new Latch();
  const timer = setTimeout(elapsed.open, timeoutMs);
  await Promise.race([event, elapsed.opened]);
  clearTimeout(timer);
}
