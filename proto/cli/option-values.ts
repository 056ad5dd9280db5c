/** Values of options, checked where they come in. */

import { InvalidArgumentError } from "commander";

/** A whole number from 1 on. */
export function positiveCount(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It is a whole number of at least 1.");
}

/** A whole number from 0 on. */
export function wholeNumber(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It is a whole number.");
}

/** Values with commas between them; none of them is empty. */
export function commaList(text: string): readonly string[] {
  const values = text.split(",").map((value) => value.trim());
  if (!values.includes("")) return values;
  throw new InvalidArgumentError("One of its values is empty.");
}
