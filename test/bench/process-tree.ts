/** Processes as /proc shows them: their memory, and what they have started. */

import { readdirSync, readFileSync } from "node:fs";

export interface ProcessFacts {
  readonly parent: number;
  /** Clock ticks since boot; together with the id it names one process for good. */
  readonly started: string;
  /** High-water mark of resident memory; 0 for a zombie. */
  readonly peakRssKb: number;
}

/** Undefined when there is no such process, or no /proc. */
export function readProcess(pid: number): ProcessFacts | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name, in brackets, may hold anything.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const peak = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"));
    return {
      parent: Number(fields[1]),
      started: fields[19] ?? "",
      peakRssKb: Number(peak?.[1] ?? 0),
    };
  } catch {
    return undefined;
  }
}

interface Member {
  readonly started: string;
  peakRssKb: number;
}

/** A process that we started, and its descendants. */
export class ProcessTree {
  readonly #root: number;
  readonly #members = new Map<number, Member>();
  /** Looked at once and found to be somebody else's. */
  readonly #foreign = new Set<number>();

  constructor(root: number) {
    this.#root = root;
    this.poll();
  }

  /** Looks for new members, and at the memory of the known ones. */
  poll(): void {
    for (const [pid, member] of this.#members) {
      const facts = readProcess(pid);
      if (facts?.started !== member.started) continue;
      member.peakRssKb = Math.max(member.peakRssKb, facts.peakRssKb);
    }
    const listed = allProcesses();
    // Numbers are used again.
    for (const pid of this.#foreign) if (!listed.has(pid)) this.#foreign.delete(pid);
    while (this.#sortOut(listed)) {}
  }

  /**
   * The largest member in MB. The root counts only while it has started nothing: it merely waits
   * for its ranks.
   */
  peakRssMb(): number {
    const descendants = [...this.#members].filter(([pid]) => pid !== this.#root);
    const ranks = descendants.length > 0 ? descendants : [...this.#members];
    return Math.max(0, ...ranks.map(([, { peakRssKb }]) => peakRssKb)) / 1024;
  }

  /** Kills every member that still is the process that it was. */
  kill(): void {
    this.poll();
    for (const [pid, { started }] of this.#members) {
      if (readProcess(pid)?.started !== started) continue;
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended in between.
      }
    }
  }

  /** @returns whether it learnt of any process whose it is, which may tell more of its children */
  #sortOut(listed: ReadonlySet<number>): boolean {
    let learnt = false;
    for (const pid of listed) {
      if (this.#members.has(pid) || this.#foreign.has(pid)) continue;
      const facts = readProcess(pid);
      if (!facts) continue;
      const { parent, started, peakRssKb } = facts;
      if (pid === this.#root || this.#members.has(parent)) {
        this.#members.set(pid, { started, peakRssKb });
      } else if (parent === 0 || this.#foreign.has(parent)) {
        this.#foreign.add(pid);
      } else {
        continue;
      }
      learnt = true;
    }
    return learnt;
  }
}

function allProcesses(): ReadonlySet<number> {
  try {
    return new Set(
      readdirSync("/proc")
        .filter((name) => /^\d+$/.test(name))
        .map(Number),
    );
  } catch {
    return new Set();
  }
}
