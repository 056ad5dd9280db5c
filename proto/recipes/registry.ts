/** The built-in recipes, by name. */

import { FleetError } from "../errors.ts";
import type { RecipeInput } from "../recipe.ts";
import { nearestKey } from "../recipe-keys.ts";
import { demo } from "./demo.ts";
import { simclrResnet18Cifar10 } from "./simclr-resnet18-2xb128-coslr-100e-cifar10.ts";
import { simclrResnet50B256E200 } from "./simclr-resnet50-8xb32-coslr-200e-in1k.ts";
import { simclrResnet50B4096E200 } from "./simclr-resnet50-16xb256-coslr-200e-in1k.ts";
import { simclrResnet50B4096E800 } from "./simclr-resnet50-16xb256-coslr-800e-in1k.ts";

/** Every built-in recipe, as written: parseRecipe fills in the defaults. */
export const RECIPES: readonly RecipeInput[] = [
  simclrResnet50B4096E200,
  simclrResnet50B4096E800,
  simclrResnet50B256E200,
  simclrResnet18Cifar10,
  demo,
];

/** @throws {FleetError} NOT_FOUND, with the nearest name */
export function findRecipe(name: string): RecipeInput {
  const found = RECIPES.find((recipe) => recipe.name === name);
  if (found) return found;

  const names = RECIPES.map((recipe) => recipe.name);
  const nearest = nearestKey(name, names);
  const hint = nearest === undefined ? `there are ${names.join(", ")}` : `did you mean ${nearest}?`;
  throw new FleetError("NOT_FOUND", `no built-in recipe is called ${name}; ${hint}`);
}
