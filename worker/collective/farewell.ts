/**
 * How members leave one another without taking it for a failure.
 *
 * A member that is done sends `goodbye` on each of its streams, behind everything else. Its peer
 * answers `seen` when the goodbyes of all streams have arrived: then all that was sent has been
 * read. Only then may the leaver cut its streams, and the peer will not mind.
 *
 *            goodbyes arrive                 streams end
 *   present ----------------> has said goodbye ---------> gone
 *      |
 *      | a stream ends
 *      v
 *    lost (the generation fails)
 */
export class Farewell {
  readonly #goodbyesDue: number;
  #goodbyes = 0;
  #isSeen = false;
  #isGone = false;

  /** @param streams how many streams this worker pulls from the peer */
  constructor(streams: number) {
    this.#goodbyesDue = streams;
  }

  /** A goodbye arrived. Returns whether it was the last one. */
  goodbye(): boolean {
    this.#goodbyes++;
    return this.hasLeft;
  }

  /** The peer has read all that this worker sent it. */
  seen(): void {
    this.#isSeen = true;
  }

  /** The streams to the peer are over. */
  gone(): void {
    this.#isGone = true;
  }

  /** The peer needs nothing of this worker any more, and will send nothing but notices. */
  get hasLeft(): boolean {
    return this.#goodbyes >= this.#goodbyesDue;
  }

  /** This worker may cut its streams without harm to the peer. */
  get isReleased(): boolean {
    return this.#isSeen || (this.hasLeft && this.#isGone);
  }
}
