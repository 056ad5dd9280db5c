/** What the bench runs, and what it finds, as its JSON has it. */

import { z } from "zod";

export interface IndexSpec {
  readonly images: number;
  /** Contents of each image. */
  readonly bytes: number;
  readonly classes: number;
  /** Tar files that share the images. */
  readonly shards: number;
  /** Random reads that are measured. */
  readonly reads: number;
}

/** What the measuring process is to do, as its one argument. */
export interface IndexTask {
  readonly folder: string;
  readonly reads: number;
}

/** Memory is in MB: growth of resident memory over what the process had before. */
export const openedSchema = z.strictObject({
  images: z.number(),
  open_s: z.number().positive(),
  /** At its highest. */
  peak_mb: z.number(),
  /** When the data set is open and garbage is collected. */
  held_mb: z.number(),
  /** The longest time for which the main thread did not come to its next turn. */
  stall_ms: z.number(),
  reads_per_s: z.number().optional(),
  permutation_ms: z.number().optional(),
});

export const listedSchema = z.strictObject({
  images: z.number(),
  list_s: z.number().positive(),
  peak_mb: z.number(),
});

export type Opened = Readonly<z.infer<typeof openedSchema>>;
export type Listed = Readonly<z.infer<typeof listedSchema>>;

/** Names of the archives, as a recipe has them. */
export const ARCHIVES = "train-*.tar";
