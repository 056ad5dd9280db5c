/** What the ranks of an experiment have logged: of one of them or all, and on as it comes. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { LINE_LEVELS, type LineLevel } from "../../proto/log-line.ts";
import type { LogView } from "../http/log-routes.ts";
import { askApi } from "./ask-api.ts";
import { TimeOfDay } from "./time-text.tsx";

const POLL_MS = 1_500;
const SHOWN_MAX = 500;
/** Below them is what debugging wants. */
const LEVELS: readonly LineLevel[] = LINE_LEVELS.filter((level) => level !== "trace");

type Line = LogView["lines"][number];

interface Filter {
  /** Empty for all of them. */
  readonly rank: string;
  readonly level: LineLevel;
}

export function LogCard({ id, ranks }: { readonly id: string; readonly ranks: number }) {
  const [filter, setFilter] = useState<Filter>({ rank: "", level: "info" });
  const [isFollowing, follow] = useState(true);
  const { lines, problem } = useLines(id, filter, isFollowing);
  const list = useRef<HTMLElement>(null);
  useEffect(() => {
    if (isFollowing) list.current?.scrollTo(0, list.current.scrollHeight);
  }, [lines, isFollowing]);
  return (
    <section class="card" aria-labelledby="logs">
      <header>
        <h2 id="logs">Logs</h2>
        <Filters filter={filter} ranks={ranks} onFilter={setFilter}>
          <label class="check">
            <input
              type="checkbox"
              checked={isFollowing}
              onChange={({ currentTarget }) => follow(currentTarget.checked)}
            />
            Follow
          </label>
        </Filters>
      </header>
      {problem === "" ? null : <p class="problem">{problem}</p>}
      {lines.length === 0 && problem === "" ? <p class="quiet">No such lines yet.</p> : null}
      {lines.length > 0 ? (
        // It scrolls, so it has to be reached by keyboard.
        // biome-ignore lint/a11y/noNoninteractiveTabindex: see above
        <section class="lines" ref={list} tabIndex={0} aria-label="Lines of the log">
          <ol>
            {lines.map((line) => (
              <LogLine key={line.cursor} line={line} />
            ))}
          </ol>
        </section>
      ) : null}
    </section>
  );
}

function LogLine({ line }: { readonly line: Line }) {
  const { unixMs, level, rank, step, event, detailsJson, workerName } = line;
  const who = rank === undefined ? workerName || "coordinator" : `rank ${rank}`;
  return (
    <li class={level}>
      <TimeOfDay unixMs={unixMs} />
      <span class="level">{level}</span>
      <span class="who">{who}</span>
      <span class="message">
        {event}
        {step === undefined ? "" : ` · step ${step}`}
        {detailsJson === "" ? null : <span class="quiet"> {detailsOf(detailsJson)}</span>}
      </span>
    </li>
  );
}

function Filters(props: {
  readonly filter: Filter;
  readonly ranks: number;
  readonly onFilter: (filter: Filter) => void;
  readonly children: ComponentChildren;
}) {
  const { filter, ranks, onFilter, children } = props;
  return (
    <div class="filters">
      <label>
        Rank{" "}
        <select
          value={filter.rank}
          onChange={({ currentTarget }) => onFilter({ ...filter, rank: currentTarget.value })}
        >
          <option value="">all</option>
          {Array.from({ length: ranks }, (_, rank) => String(rank)).map((rank) => (
            <option key={rank} value={rank}>
              {rank}
            </option>
          ))}
        </select>
      </label>
      <label>
        Level{" "}
        <select
          value={filter.level}
          onChange={({ currentTarget }) =>
            onFilter({ ...filter, level: currentTarget.value as LineLevel })
          }
        >
          {LEVELS.map((level) => (
            <option key={level} value={level}>
              {level}
            </option>
          ))}
        </select>
      </label>
      {children}
    </div>
  );
}

/** Asks for what is new, again and again while it follows. */
function useLines(
  id: string,
  { rank, level }: Filter,
  isFollowing: boolean,
): { readonly lines: readonly Line[]; readonly problem: string } {
  const [lines, setLines] = useState<readonly Line[]>([]);
  const [problem, setProblem] = useState("");
  const newest = useRef(0);
  useEffect(() => {
    newest.current = 0;
    setLines([]);
  }, [id, rank, level]);
  useEffect(() => {
    let isOver = false;
    let timer: number | undefined;
    const look = async (): Promise<void> => {
      const from = newest.current === 0 ? `last=${SHOWN_MAX}` : `after=${newest.current}`;
      const path = `experiments/${encodeURIComponent(id)}/logs?level=${level}&${from}`;
      try {
        const page = await askApi<LogView>(rank === "" ? path : `${path}&rank=${rank}`);
        if (isOver) return;
        setProblem("");
        newest.current = page.lines.at(-1)?.cursor ?? newest.current;
        if (page.lines.length > 0) {
          setLines((before) => [...before, ...page.lines].slice(-SHOWN_MAX));
        }
      } catch (thrown) {
        if (!isOver) setProblem((thrown as Error).message);
      }
      if (!isOver && isFollowing) timer = window.setTimeout(look, POLL_MS);
    };
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [id, rank, level, isFollowing]);
  return { lines, problem };
}

/** `key=value`, as people read it. */
function detailsOf(json: string): string {
  const details = JSON.parse(json) as Readonly<Record<string, unknown>>;
  return Object.entries(details)
    .map(([key, value]) => `${key}=${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(" ");
}
