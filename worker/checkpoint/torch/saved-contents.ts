/** What the two formats of torch.save have in common. */

import type { PickleValue } from "./pickle-values.ts";

export interface SavedContents {
  /** What was saved. */
  readonly root: PickleValue;
  /** @throws {FleetError} CHECKPOINT_INVALID when there is no such storage */
  locate(key: string): StoredBytes;
}

export interface StoredBytes {
  readonly bytes: number;
  read(): Uint8Array<ArrayBuffer>;
}
