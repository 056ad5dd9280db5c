/**
 * Which tensors are alive, and which scope will free them.
 *
 * Every engine keeps its tensors with one of these, so that scopes mean the same everywhere. A
 * tensor belongs to the innermost scope at the time it is made; when a scope ends, the tensors that
 * its result reaches move to the scope around it and the others are freed.
 */

import assert from "node:assert/strict";
import type { Tensor } from "./engine.ts";

export class ScopeTracker<T extends Tensor> {
  readonly #free: (tensor: T) => void;
  /** Innermost last; the first one never ends. */
  readonly #scopes: Set<T>[] = [new Set()];
  readonly #home = new Map<Tensor, Set<T>>();

  /** @param free gives the tensor's storage back to the device */
  constructor(free: (tensor: T) => void) {
    this.#free = free;
  }

  /** Registers a new tensor with the innermost scope. */
  adopt(tensor: T): T {
    const scope = this.#scopes.at(-1)!;
    assert.ok(!this.#home.has(tensor), "a tensor is adopted once");
    scope.add(tensor);
    this.#home.set(tensor, scope);
    return tensor;
  }

  /** The engine's own view of a tensor, once it is sure that it may be used. */
  open(tensor: Tensor): T {
    assert.ok(
      this.#isAlive(tensor),
      `tensor [${tensor.shape}] was released, or belongs to another engine`,
    );
    return tensor;
  }

  release(tensor: Tensor): void {
    const own = this.open(tensor);
    this.#home.get(own)?.delete(own);
    this.#home.delete(own);
    this.#free(own);
  }

  /** See {@link Engine.scope}. Frees everything made inside when `body` throws. */
  run<R>(body: () => R): R {
    const inner = new Set<T>();
    const outer = this.#scopes.at(-1)!;
    this.#scopes.push(inner);
    let kept: ReadonlySet<unknown> = new Set();
    try {
      const result = body();
      kept = reachableFrom(result);
      return result;
    } finally {
      assert.equal(this.#scopes.pop(), inner, "scopes end in the reverse order of their begin");
      for (const tensor of inner) {
        if (!kept.has(tensor)) {
          this.release(tensor);
          continue;
        }
        outer.add(tensor);
        this.#home.set(tensor, outer);
      }
    }
  }

  releaseAll(): void {
    for (const scope of this.#scopes) for (const tensor of scope) this.release(tensor);
  }

  #isAlive(tensor: Tensor): tensor is T {
    return this.#home.has(tensor);
  }

  *[Symbol.iterator](): Iterator<T> {
    for (const scope of this.#scopes) yield* scope;
  }
}

/** Every object that can be reached from `root` over properties, array elements, maps and sets. */
function reachableFrom(root: unknown): ReadonlySet<unknown> {
  const seen = new Set<unknown>();
  const pending: unknown[] = [root];
  while (pending.length > 0) {
    const value = pending.pop();
    if (typeof value !== "object" || value === null) continue;
    if (seen.has(value) || ArrayBuffer.isView(value)) continue;
    assert.ok(!(value instanceof Promise), "a scope's body is synchronous");
    seen.add(value);
    if (value instanceof Map) pending.push(...value.keys(), ...value.values());
    else if (value instanceof Set) pending.push(...value);
    else pending.push(...Object.values(value));
  }
  return seen;
}
