/** What `bench:data` measures, and what a run of it prints. */

import { z } from "zod";

export const PIPELINES = ["pretrain", "linear", "validation"] as const;

export const specSchema = z.object({
  /** Folder of images; only those that are JPEG by their name are used. */
  images: z.string(),
  pipeline: z.enum(PIPELINES),
  threads: z.int().positive(),
  /** Edge of the views in pixels. */
  size: z.int().positive(),
  /** Passes over the images that are measured, after one that is not. */
  repeat: z.int().positive(),
});

export type DataSpec = z.output<typeof specSchema>;

/** One run of either side, as it is printed. */
export const measurementSchema = z.object({
  /** Measured; each source image counts once, whatever number of views it gives. */
  images: z.int().positive(),
  images_per_s: z.number().positive(),
});

export type Measurement = z.output<typeof measurementSchema>;
