/** How far a long command has come, on standard error. */

import type { Output } from "../../proto/cli/cli-context.ts";
import { progressBar } from "../../proto/cli/progress-bar.ts";

/** Lines that a log gets; a terminal has one that changes. */
const LINES = 4;

/**
 * @returns what to call with the number of things that are done; the last call is for `total`
 */
export function showProgress(output: Output, what: string, total: number): (done: number) => void {
  const steps = output.isTTY ? 100 : LINES;
  let shown = -1;
  return (done) => {
    const step = Math.floor((steps * done) / total);
    if (step === shown) return;
    shown = step;
    const count = `${done} of ${total}`;
    if (output.isTTY) {
      const { columns } = output;
      const bar = progressBar({ head: what, share: done / total, figures: [count], columns });
      output.write(`\r${bar}${done === total ? "\n" : ""}`);
    } else if (step > 0) {
      output.write(`${what}: ${count}\n`);
    }
  };
}
