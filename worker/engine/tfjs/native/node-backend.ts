/**
 * The part of the `@tensorflow/tfjs-node` backend that runs any TensorFlow operation by its name.
 *
 * The package is an optional dependency, so its types are declared here.
 */

import type { Raw } from "../kernels.ts";

interface Attribute {
  readonly name: string;
  readonly type: number;
  readonly value: unknown;
}

export interface NodeBackend {
  readonly isUsingGpuDevice: boolean;
  readonly binding: Readonly<
    Record<
      | "TF_FLOAT"
      | "TF_INT32"
      | "TF_ATTR_TYPE"
      | "TF_ATTR_INT"
      | "TF_ATTR_FLOAT"
      | "TF_ATTR_BOOL"
      | "TF_ATTR_STRING",
      number
    >
  > & { readonly TF_Version: string };
  executeMultipleOutputs(
    name: string,
    attributes: readonly Attribute[],
    inputs: readonly Raw[],
    outputs: number,
  ): Raw[];
}

/** A number is an integer attribute; floats and types are marked as such. */
type AttributeValue =
  | number
  | boolean
  | string
  | readonly number[]
  | { readonly float: number }
  | { readonly type: "float" | "int32" };

export type Attributes = Readonly<Record<string, AttributeValue>>;

/** Runs one TensorFlow operation with a single output. */
export function runOne(
  backend: NodeBackend,
  name: string,
  inputs: readonly Raw[],
  attributes: Attributes,
): Raw {
  return runMany(backend, name, inputs, attributes, 1)[0]!;
}

export function runMany(
  backend: NodeBackend,
  name: string,
  inputs: readonly Raw[],
  attributes: Attributes,
  outputs: number,
): Raw[] {
  const all: Attributes = { T: { type: "float" }, ...attributes };
  const encoded = Object.entries(all).map(([key, value]) => encode(backend, key, value));
  return backend.executeMultipleOutputs(name, encoded, inputs, outputs);
}

function encode({ binding }: NodeBackend, name: string, value: AttributeValue): Attribute {
  if (typeof value === "boolean") return { name, type: binding.TF_ATTR_BOOL, value };
  if (typeof value === "string") return { name, type: binding.TF_ATTR_STRING, value };
  if (typeof value === "number") return { name, type: binding.TF_ATTR_INT, value };
  if ("float" in value) return { name, type: binding.TF_ATTR_FLOAT, value: value.float };
  if ("type" in value) {
    const type = value.type === "float" ? binding.TF_FLOAT : binding.TF_INT32;
    return { name, type: binding.TF_ATTR_TYPE, value: type };
  }
  return { name, type: binding.TF_ATTR_INT, value };
}
