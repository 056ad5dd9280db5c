/**
 * What a pickle is read into: plain data that does nothing.
 *
 * None is undefined, tuples and lists are arrays, every dict is a Map. What has a class of its own
 * becomes one of the four tagged values below.
 */

import type { Dtype } from "../element-types.ts";

export type PickleValue =
  | undefined
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | Map<PickleValue, PickleValue>
  | PickleGlobal
  | PickleStub
  | PickleStorage
  | PickleTensor;

/** A class or function, by name. It is never looked up. */
export interface PickleGlobal {
  readonly type: "global";
  /** Dotted, with its module. */
  readonly name: string;
}

/** Stands for an object of a class that is not known here, and swallows what is done to it. */
export interface PickleStub {
  readonly type: "stub";
  /** Dotted name of the class or function that would have made it. */
  readonly of: string;
}

/** Elements that several tensors may share, kept beside the pickle. */
export interface PickleStorage {
  readonly type: "storage";
  readonly key: string;
  /** Undefined for a type that is not known here. */
  readonly dtype: Dtype | undefined;
  /** Name of PyTorch's storage class. */
  readonly of: string;
  readonly elements: number;
}

/** A window into a storage; sizes are checked when it is read. */
export interface PickleTensor {
  readonly type: "tensor";
  readonly storage: PickleStorage;
  /** These three count elements. */
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

/** PyTorch's own limit. */
const AXES_MAX = 64;

export function isTensor(value: PickleValue): value is PickleTensor {
  return isTagged(value) && value.type === "tensor";
}

export function isStub(value: PickleValue): value is PickleStub {
  return isTagged(value) && value.type === "stub";
}

export function isStorage(value: PickleValue): value is PickleStorage {
  return isTagged(value) && value.type === "storage";
}

export function isGlobal(value: PickleValue): value is PickleGlobal {
  return isTagged(value) && value.type === "global";
}

export function isCount(value: PickleValue): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** Whether a value can be a tensor's shape or strides. */
export function isCounts(value: PickleValue): value is number[] {
  return Array.isArray(value) && value.length <= AXES_MAX && value.every(isCount);
}

function isTagged(value: PickleValue): value is Extract<PickleValue, { readonly type: string }> {
  const isObject = typeof value === "object" && !Array.isArray(value);
  return isObject && !(value instanceof Map) && !(value instanceof Uint8Array);
}
