/**
 * What keeps experiments from their workers, for people: the launcher says it, and the planner adds
 * it to the reason of those that wait.
 */
export class LaunchHints {
  /** What keeps all of them; an experiment's own hint comes first. */
  outage: string | undefined;
  readonly #own = new Map<string, string>();

  get(experimentId: string): string | undefined {
    return this.#own.get(experimentId) ?? this.outage;
  }

  set(experimentId: string, hint: string): void {
    this.#own.set(experimentId, hint);
  }

  /** Forgets the experiments' own ones. */
  clear(): void {
    this.#own.clear();
  }
}
