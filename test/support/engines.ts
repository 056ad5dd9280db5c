/** Suites that run on every engine that loads on this machine. */

import assert from "node:assert/strict";
import { FleetError } from "../../proto/errors.ts";
import type { Engine, Precision } from "../../worker/engine/engine.ts";
import { openEngine } from "../../worker/engine/open-engine.ts";

/** Best first. */
export const NAMES = ["tfjs:node-gpu", "onednn", "tfjs:node", "tfjs:wasm"];

const loaded: string[] = [];

/** Why the other engines do not load, by their names. */
export const refusals = new Map<string, FleetError>();

for (const name of NAMES) {
  try {
    (await openEngine(name, { threads: 1, precision: "f32" })).engine.close();
    loaded.push(name);
  } catch (thrown) {
    refusals.set(name, FleetError.from(thrown));
  }
}

/**
 * Describes `suite` once for every engine. Each case must free what it makes.
 * @param suite gets a function that returns the engine, once the cases run
 */
export function describeEngines(
  subject: string,
  suite: (engine: () => Engine, precision: Precision) => void,
  precisions: readonly Precision[] = ["f32"],
): void {
  const runs = loaded.flatMap((name) =>
    precisions
      .filter((precision) => precision === "f32" || name === "onednn")
      .map((precision) => ({ name, precision })),
  );
  for (const { name, precision } of runs) {
    describe(`${subject} of ${name} in ${precision}`, function () {
      this.timeout(20_000);
      let engine: Engine;

      before("opens the engine", async () => {
        ({ engine } = await openEngine(name, { threads: 1, precision }));
      });
      after("closes the engine", () => engine.close());
      afterEach("frees everything", () =>
        assert.deepEqual(engine.memory(), { tensors: 0, bytes: 0 }),
      );

      suite(() => engine, precision);
    });
  }
}
