/** A gang whose members are processes of their own. */

import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { EventEmitter, once } from "node:events";
import type { FrameFaultInjection } from "./frame-relay.ts";
import type { MemberMessage, MemberTask } from "./member-process.ts";

type MessageOf<Type> = Extract<MemberMessage, { readonly type: Type }>;

export class Member {
  readonly rank: number;
  /** Resolves once the process is gone. */
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly #child: ChildProcess;
  readonly #messages: MemberMessage[] = [];
  readonly #news = new EventEmitter();
  #hasExited = false;

  constructor(rank: number, injection: FrameFaultInjection | undefined) {
    this.rank = rank;
    const args = injection === undefined ? [] : [JSON.stringify(injection)];
    const url = new URL("./member-process.js", import.meta.url);
    this.#child = fork(url, args, { execArgv: ["--expose-gc", "--enable-source-maps"] });
    this.#news.setMaxListeners(0);
    this.#child.on("message", (message: MemberMessage) => {
      this.#messages.push(message);
      this.#news.emit("news");
    });
    this.exited = once(this.#child, "exit").then(([code, signal]) => {
      this.#hasExited = true;
      this.#news.emit("news");
      return { code, signal };
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  start(task: MemberTask): void {
    this.#child.send(task);
  }

  /** Everything of this type that the member has said so far. */
  all<Type extends MemberMessage["type"]>(type: Type): readonly MessageOf<Type>[] {
    return this.#messages.filter((message) => message.type === type) as MessageOf<Type>[];
  }

  /** The first message of this type; rejects when the process ends without one. */
  async told<Type extends MemberMessage["type"]>(type: Type): Promise<MessageOf<Type>> {
    for (;;) {
      const [message] = this.all(type);
      if (message !== undefined) return message;
      const last = JSON.stringify(this.#messages.slice(-3));
      assert.ok(!this.#hasExited, `rank ${this.rank} ended without "${type}", after ${last}`);
      await once(this.#news, "news");
    }
  }

  /** Sends a signal; returns the time just before, in epoch milliseconds. */
  signal(signal: NodeJS.Signals): number {
    const at = performance.timeOrigin + performance.now();
    this.#child.kill(signal);
    return at;
  }

  /** Resolves when the process is gone, which it is made to be. */
  async end(): Promise<void> {
    if (!this.#hasExited) this.#child.kill("SIGKILL");
    await this.exited;
  }
}

export interface ProcessGang {
  readonly members: readonly Member[];
  /** Where each member can be reached. */
  readonly addresses: readonly string[];
  /** Gives all members the task; `special` is for one rank only. */
  start(
    task: Omit<MemberTask, "rank" | "peers">,
    special?: { readonly rank: number; readonly task: Partial<MemberTask> },
  ): void;
  /** Puts `address` in the place of a member's own, for everybody. To be called before `start`. */
  reroute(rank: number, address: string): void;
  end(): Promise<void>;
}

/** @param injection what the member of this rank does to one frame that it sends */
export async function startProcessGang(
  worldSize: number,
  injection?: FrameFaultInjection & { readonly rank: number },
): Promise<ProcessGang> {
  const members = Array.from(
    { length: worldSize },
    (_, rank) => new Member(rank, rank === injection?.rank ? injection : undefined),
  );
  const end = async () => {
    await Promise.all(members.map((member) => member.end()));
  };
  try {
    const listening = await Promise.all(members.map((member) => member.told("listening")));
    const addresses = listening.map(({ address }) => address);
    return {
      members,
      addresses,
      start: (task, special) => {
        const peers = addresses.map((address, rank) => ({ workerId: `w${rank}`, address }));
        for (const member of members) {
          const own = member.rank === special?.rank ? special.task : {};
          member.start({ ...task, rank: member.rank, peers, ...own });
        }
      },
      reroute: (rank, address) => {
        addresses[rank] = address;
      },
      end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}
