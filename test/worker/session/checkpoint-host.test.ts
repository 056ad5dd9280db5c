import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import {
  LINK_SETTLED,
  type SaveEvent,
  SLOT_IS_WRITTEN,
} from "../../../worker/checkpoint/checkpoint-link.ts";
import {
  openStore,
  readCheckpoint,
  type Snapshot,
  saveCheckpoint,
} from "../../../worker/checkpoint/checkpoint-store.ts";
import { soloGroup } from "../../../worker/collective/process-group.ts";
import { CheckpointHost } from "../../../worker/session/checkpoint-host.ts";
import { CheckpointSender, settleTogether } from "../../../worker/train/checkpoint-sender.ts";
import { until } from "../../support/until.ts";

describe("CheckpointHost", function () {
  this.timeout(20_000);
  const GENERATION = 4;
  let folder: string;
  let store: string;
  let host: CheckpointHost;
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "checkpoint-host-"));
    store = path.join(folder, "checkpoints");
    host = new CheckpointHost();
  });
  afterEach(async () => {
    await host.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const open = () => {
    const events: SaveEvent[] = [];
    const stage = host.open({ store, keep: 3 }, (event) => events.push(event));
    return { events, stage, sender: new CheckpointSender(stage.link) };
  };
  const snapshotAt = (step: number, value = step): Snapshot => ({
    manifest: {
      format: "simclr-fleet/checkpoint/1",
      experimentId: "e1",
      recipe: "demo",
      stage: "pretrain",
      step,
      epoch: step / 4,
      seed: 7,
      worldSize: 2,
      generation: GENERATION,
      batchesTracked: step,
      scalars: {},
      createdAt: "2026-01-02T03:04:05.000Z",
    },
    model: new Map([["fc.weight", { shape: [2], data: Float32Array.of(value, 1) }]]),
    optimizer: new Map([["fc.weight", { shape: [2], data: Float32Array.of(-value, 1) }]]),
  });
  const send = (sender: CheckpointSender, step: number, isLast = false): void =>
    sender.send(() => snapshotAt(step), { isLast });
  const stepsIn = (): string[] => readdirSync(store).filter((name) => name.startsWith("step-"));
  const folderOf = (step: number): string => `step-${String(step).padStart(9, "0")}`;

  it("writes what was copied, and tells its step once it is durable", async () => {
    const { events, stage, sender } = open();
    const state = Float32Array.of(3, 4);
    sender.send(
      (allocate) => {
        const data = allocate(2);
        data.set(state);
        return { ...snapshotAt(12), model: new Map([["fc.weight", { shape: [2], data }]]) };
      },
      { isLast: false },
    );
    assert.deepEqual(await stage.idle(), { step: 12, error: undefined });
    const read = readCheckpoint(path.join(store, folderOf(12)));
    assert.deepEqual(read.model.get("fc.weight")!.data, state);
    assert.deepEqual(read.optimizer, snapshotAt(12).optimizer);
    assert.equal(read.manifest.generation, GENERATION);
    assert.deepEqual(
      events.map(({ type, step }) => [type, step]),
      [["checkpoint", 12]],
    );
    settleTogether(soloGroup, sender);
  });

  it("is idle when nothing was ever asked for", async () => {
    assert.deepEqual(await open().stage.idle(), { step: undefined, error: undefined });
    await host.idle();
  });

  it("has one checkpoint wait at most: the newest", async () => {
    const { events, stage, sender } = open();
    // The first is tried again and again for as long as a file is in the store's place.
    writeFileSync(store, "");
    send(sender, 1, true);
    await until("the first to be begun", () => stage.link.words.includes(SLOT_IS_WRITTEN));
    for (const step of [2, 3, 4]) send(sender, step);
    rmSync(store);
    assert.deepEqual(await stage.idle(), { step: 4, error: undefined });
    assert.deepEqual(stepsIn(), [folderOf(1), folderOf(4)]);
    assert.deepEqual(
      events.map(({ step }) => step),
      [1, 4],
    );
  });

  it("writes what still waits when the process ends", async () => {
    const { stage, sender } = open();
    for (const step of [1, 2]) send(sender, step);
    stage.close();
    await host.close();
    assert.ok(stepsIn().includes(folderOf(2)));
  });

  it("names storage that fails, lets training go on, and writes the next one", async () => {
    const { events, stage, sender } = open();
    writeFileSync(store, "");
    send(sender, 1);
    const { step, error } = await stage.idle();
    assert.equal(step, undefined);
    assert.equal(error?.code, "STORAGE_FAILED");
    assert.match(error.message, new RegExp(`^checkpoints cannot be written to ${store}: .*EEXIST`));
    sender.throwIfRefused();
    rmSync(store);
    send(sender, 2);
    assert.deepEqual(await stage.idle(), { step: 2, error: undefined });
    assert.deepEqual(
      events.map(({ type, step }) => [type, step]),
      [
        ["checkpoint-failed", 1],
        ["checkpoint", 2],
      ],
    );
  });

  it("fails a stage whose last checkpoint cannot be written in a few attempts", async () => {
    const { events, sender } = open();
    writeFileSync(store, "");
    send(sender, 9, true);
    assert.throws(() => settleTogether(soloGroup, sender), {
      code: "STORAGE_FAILED",
      message: new RegExp(store),
    });
    await until("the failure to be told", () => events.length === 1);
  });

  it("refuses a state that is not finite, and leaves the checkpoint before it", async () => {
    const { stage, sender } = open();
    send(sender, 1);
    await stage.idle();
    sender.send(() => snapshotAt(2, Number.NaN), { isLast: false });
    const { step, error } = await stage.idle();
    assert.deepEqual([step, error?.code], [1, "LOSS_NOT_FINITE"]);
    assert.throws(() => sender.throwIfRefused(), {
      code: "LOSS_NOT_FINITE",
      message: /^fc\.weight .* step 2$/,
    });
    assert.deepEqual(stepsIn(), [folderOf(1)]);
  });

  it("refuses a rank 0 whose store belongs to a later generation by now", async () => {
    const { stage, sender } = open();
    send(sender, 1);
    await stage.idle();
    openStore(store, GENERATION + 1);
    for (const step of [2, 3, 4, 5]) {
      const { manifest, ...state } = snapshotAt(step);
      const later = { ...state, manifest: { ...manifest, generation: GENERATION + 1 } };
      saveCheckpoint(store, later, 5);
    }
    const before = readdirSync(store);
    send(sender, 6);
    const { error } = await stage.idle();
    assert.equal(error?.code, "GENERATION_ABORTED");
    assert.throws(() => sender.throwIfRefused(), {
      code: "GENERATION_ABORTED",
      message: /^fenced off: .* belongs to generation 5, this is 4$/,
    });
    assert.deepEqual(readdirSync(store), before, "nothing is written or removed");
  });

  it("tells the engine thread when its thread is no more", async () => {
    const { stage, sender } = open();
    send(sender, 1);
    await stage.idle();
    await host.close();
    assert.throws(() => sender.throwIfRefused(), { code: "UNEXPECTED" });
    assert.equal(Atomics.load(stage.link.words, LINK_SETTLED), 1);
    assert.equal((await stage.idle()).step, 1);
  });
});
