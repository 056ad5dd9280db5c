/** The state of an experiment or a worker: a word, and a colour that says no more than the word. */

const TONES: Readonly<Record<string, string>> = {
  running: "good",
  busy: "good",
  succeeded: "done",
  forming: "busy",
  stopping: "busy",
  draining: "busy",
  waiting: "idle",
  idle: "idle",
  paused: "idle",
  cancelled: "idle",
  failed: "bad",
  lost: "bad",
};

export function StateBadge({ state }: { readonly state: string }) {
  return <span class={`badge ${TONES[state] ?? "idle"}`}>{state}</span>;
}
