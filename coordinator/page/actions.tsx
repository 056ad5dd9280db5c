/** What a signed-in operator can make an experiment do, asked once more before it is done. */

import { useRef, useState } from "preact/hooks";
import type { VERBS } from "../http/api-routes.ts";
import type { ExperimentDetail } from "../http/fleet-view.ts";
import { askApi } from "./ask-api.ts";

type Verb = (typeof VERBS)[number];
type Status = ExperimentDetail["experiment"]["state"];

interface Action {
  readonly verb: Verb;
  readonly label: string;
  readonly in: readonly Status[];
  readonly consequence: string;
}

const UNDER_WAY = ["waiting", "forming", "running"] as const;
const ACTIONS: readonly Action[] = [
  {
    verb: "pause",
    label: "Pause",
    in: UNDER_WAY,
    consequence:
      "The gang finishes the step under way, writes a checkpoint, and its workers are free for " +
      "others. It goes on from there when it is resumed.",
  },
  {
    verb: "resume",
    label: "Resume",
    in: ["paused"],
    consequence: "It takes its place in the queue, and goes on from its checkpoint.",
  },
  {
    verb: "retry",
    label: "Retry",
    in: ["failed", "cancelled"],
    consequence: "It is queued again, and goes on from its newest checkpoint.",
  },
  {
    verb: "cancel",
    label: "Cancel",
    in: [...UNDER_WAY, "stopping", "paused"],
    consequence:
      "The gang finishes the step under way, writes a checkpoint, and stops for good. While it " +
      "stops for that, a second time gives the step up at once.",
  },
];

export function Actions({ experiment }: Pick<ExperimentDetail, "experiment">) {
  const { id, state } = experiment;
  const dialog = useRef<HTMLDialogElement>(null);
  const [asked, setAsked] = useState<Action>();
  const [outcome, setOutcome] = useState("");
  const ask = (action: Action): void => {
    setAsked(action);
    setOutcome("");
    dialog.current?.showModal();
  };
  const confirm = async ({ verb, label }: Action): Promise<void> => {
    dialog.current?.close();
    try {
      await askApi(`experiments/${encodeURIComponent(id)}/${verb}`, {});
      setOutcome(`${label} was accepted.`);
    } catch (thrown) {
      setOutcome(`${label} was refused: ${(thrown as Error).message}`);
    }
  };
  return (
    <div class="actions">
      <span role="status" class="quiet">
        {outcome}
      </span>
      {ACTIONS.filter((action) => action.in.includes(state)).map((action) => (
        <button
          key={action.verb}
          type="button"
          class={action.verb === "cancel" ? "danger" : ""}
          onClick={() => ask(action)}
        >
          {action.label}
        </button>
      ))}
      <dialog ref={dialog} aria-labelledby="confirm">
        <h2 id="confirm">
          {asked?.label} {id}?
        </h2>
        <p>{asked?.consequence}</p>
        <div class="buttons">
          <button type="button" onClick={() => dialog.current?.close()}>
            Back
          </button>
          <button
            type="button"
            class={asked?.verb === "cancel" ? "danger primary" : "primary"}
            onClick={() => asked && void confirm(asked)}
          >
            {asked?.label} it
          </button>
        </div>
      </dialog>
    </div>
  );
}
