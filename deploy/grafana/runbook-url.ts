/** Where people read what to do about an alert. */

const RUNBOOKS = "https://github.com/simclr-fleet/simclr-fleet/blob/main/deploy/runbooks";

/** @param alert e.g. SimclrNoStepProgress, whose page is no-step-progress.md */
export function runbookUrl(alert: string): string {
  const words = alert.replace(/^Simclr/, "").replaceAll(/(?<!^)(?=[A-Z])/g, "-");
  return `${RUNBOOKS}/${words.toLowerCase()}.md`;
}
