/**
 * Simulation of the scheduler.
 *
 * Goal: a gang is whole or gone, no worker is ever in two, none gets work that it is not for, a
 * stage ends only when all of its ranks have, gangs grow when they can and not hastily, and
 * whatever can be finished is finished once the faults end; then those leave whose work is over.
 * Method: the production scheduler runs against a simulated fleet in simulated time. A seed draws
 * the faults and how often they come. First they rage, and the safety checks hold at every tick;
 * then they stop, and every experiment has to succeed within a bound. A failure prints its seed:
 *
 *     SEED=1234 npm test -- -g simulation
 */

import assert from "node:assert/strict";
import { Prng } from "../support/prng.ts";
import { SimulatedFleet } from "./simulated-fleet.ts";
import { CALM, type Faults } from "./simulated-worker.ts";

const STORM_TICKS = 300;
const CALM_TICKS = 600;

describe("scheduler simulation", function () {
  this.timeout(30_000);
  const { SEED, SEEDS = "200" } = process.env;
  const seeds = SEED ? [Number(SEED)] : Array.from({ length: Number(SEEDS) }, (_, i) => i + 1);

  for (const seed of seeds) {
    it(`keeps gangs whole, and finishes everything after the storm (SEED=${seed})`, async () => {
      const prng = new Prng(seed);
      const fleet = new SimulatedFleet(prng, drawFaults(prng));
      const tick = async (): Promise<void> => {
        await fleet.tick();
        fleet.check();
      };
      for (let count = 0; count < STORM_TICKS; count++) await tick();

      fleet.faults = CALM;
      for (let count = 0; count < CALM_TICKS && fleet.complaints().length > 0; count++)
        await tick();
      assert.deepEqual(fleet.complaints(), []);

      // Faults may have used up a restart budget; without them everything comes to its end.
      fleet.retryAll();
      for (let count = 0; count < CALM_TICKS && fleet.complaints().length > 0; count++)
        await tick();
      assert.deepEqual(fleet.complaints(), []);
      const states = new Set(fleet.experiments().map(({ phase }) => phase.status));
      assert.deepEqual([...states], ["succeeded"]);
    });
  }
});

/** Swarm testing: every seed has its own climate, so that rare mixes of faults are reached too. */
function drawFaults(prng: Prng): Faults {
  return {
    crash: prng.next() * 0.02,
    freeze: prng.next() * 0.03,
    disconnect: prng.next() * 0.05,
    stick: prng.next() * 0.005,
    breakUp: prng.next() * 0.01,
    fatal: prng.next() * 0.002,
    preempt: prng.next() * 0.01,
    coordinatorCrash: prng.next() * 0.02,
    operator: prng.next() * 0.05,
    delay: prng.next() * 0.6,
  };
}
