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
