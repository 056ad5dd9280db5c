/** Says to those who do not see it when an experiment comes to another state; nothing else. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { ExperimentSummary } from "../http/fleet-view.ts";

export function Announcer(props: {
  readonly experiments: readonly ExperimentSummary[] | undefined;
}) {
  const { experiments } = props;
  const known = useRef<ReadonlyMap<string, string> | undefined>(undefined);
  const [text, setText] = useState("");
  useEffect(() => {
    if (!experiments) return;
    const before = known.current;
    known.current = new Map(experiments.map(({ id, state }) => [id, state]));
    if (!before) return;
    const news = experiments.filter(({ id, state }) => before.get(id) !== state);
    if (news.length === 1) setText(`${news[0]?.id} is ${news[0]?.state}`);
    else if (news.length > 1) setText(`${news.length} experiments have changed`);
  }, [experiments]);
  return (
    <div role="status" class="hidden">
      {text}
    </div>
  );
}
