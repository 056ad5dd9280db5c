/** How images and flat arrays store their numbers; bf16 is the upper half of an f32. */
export type ElementType = "f32" | "bf16";
