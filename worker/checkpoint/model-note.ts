/**
 * What exported files say of the model beyond its tensors: the recipe's model, and how images
 * become its input. One text among the file's metadata, which other programs pass over.
 */

import { z } from "zod";
import { inputSchema } from "../../proto/model/input-view.ts";
import { modelSchema } from "../../proto/recipe.ts";
import type { Weights } from "./read-weights.ts";

export const MODEL_NOTE = "simclr_fleet";

const noteSchema = z.strictObject({ model: modelSchema.optional(), input: inputSchema.optional() });

type Noted = Pick<Weights, "model" | "imageInput">;

/** By its key; nothing when nothing is known. */
export function writeModelNote({ model, imageInput }: Noted): Readonly<Record<string, string>> {
  if (!model && !imageInput) return {};
  return { [MODEL_NOTE]: JSON.stringify({ model, input: imageInput }) };
}

/** A damaged note, or one of a later version, says nothing. */
export function readModelNote(text: unknown): Noted {
  if (typeof text !== "string") return {};
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return {};
  }
  const { data } = noteSchema.safeParse(json);
  return {
    ...(data?.model && { model: data.model }),
    ...(data?.input && { imageInput: data.input }),
  };
}
